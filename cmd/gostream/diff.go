package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream/asyncapi"
)

func newDiff() *cobra.Command {
	var (
		asJSON bool
		failOn string
	)
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say what has changed between two AsyncAPI documents, and what that breaks",
		Long: `Say what has changed between two AsyncAPI documents, and which of it breaks those that
exchange messages with the service. Each is a file, JSON or YAML, or the folder of a
service, or "-" for the standard input.

The exit code is 0 where nothing breaks, 1 where something does (with --fail-on any
already where something has changed), and 2 for a mistake or a document that cannot be
read.`,
		Args: between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if failOn != "breaking" && failOn != "any" {
				return usagef("--fail-on %q: take breaking or any", failOn)
			}
			if args[0] == stdinName && args[1] == stdinName {
				return usagef("only one of the documents can come from the standard input")
			}
			return diff(cmd.Context(), cmd.OutOrStdout(), args[0], args[1], asJSON, failOn == "any")
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&failOn, "fail-on", "breaking", "what makes the exit code 1: breaking, any")
	return cmd
}

func diff(ctx context.Context, stdout io.Writer, before, after string, asJSON, onAny bool) error {
	var specs []*asyncapi.Spec
	for _, arg := range []string{before, after} {
		src, err := openSource(ctx, arg)
		if err != nil {
			return err
		}
		spec, err := src.load(ctx)
		src.close()
		if err != nil {
			return &usageError{error: err}
		}
		specs = append(specs, spec)
	}
	changes := asyncapi.Diff(specs[0], specs[1])
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(changes); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(stdout, changes.Text()); err != nil {
		return err
	}
	if changes.Breaking() || onAny && len(changes.List) > 0 {
		return exitCode(exitFailure)
	}
	return nil
}
