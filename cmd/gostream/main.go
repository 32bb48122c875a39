// Command gostream is the developer's tool of gostream: it begins a project, runs a service
// while it is being written, and shows and compares what services say of themselves.
//
//	gostream new my-service                  begin a project
//	gostream run --reload                    run a service, and again when its source changes
//	gostream describe                        say what a service consists of
//	gostream asyncapi serve                  show the AsyncAPI document of a service in a browser
//	gostream asyncapi diff old.json .        compare two documents
//
// docs/cli.md in gostream's repository describes all of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes. What runs a service answers with the service's own.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run is the tool: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var quiet exitCode
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &quiet):
		return int(quiet)
	case errors.As(err, &usage):
		complain(stderr, err)
		if usage.advise {
			fmt.Fprintf(stderr, "gostream: %q says how it is used\n", cmd.CommandPath()+" --help")
		}
		return exitUsage
	}
	complain(stderr, err)
	return exitFailure
}

// complain writes err, a line for each mistake.
func complain(w io.Writer, err error) {
	for line := range strings.Lines(err.Error() + "\n") {
		if line = strings.TrimRight(line, "\n"); line != "" {
			fmt.Fprintln(w, "gostream:", line)
		}
	}
}

// exitCode ends the tool with that code. Everything has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a mistake in the arguments, or in a document: exit code 2.
type usageError struct {
	error
	advise bool // where to read how the command is used
}

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...), true} }

func newRoot() *cobra.Command {
	root := group("gostream", "The developer's tool of gostream, a messaging framework for Go")
	root.Version = version()
	root.SetVersionTemplate("gostream {{.Version}}\n")
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err, true} })

	asyncapi := group("asyncapi", "Show and compare AsyncAPI documents")
	asyncapi.AddCommand(newServe(), newDiff())
	root.AddCommand(newNew(), newRun(), newDescribe(), asyncapi)
	return root
}

// group is a command that has others below it and does nothing itself.
func group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.ArbitraryArgs, // RunE says what is wrong with them
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			var known []string
			for _, c := range cmd.Commands() {
				if c.IsAvailableCommand() {
					known = append(known, c.Name())
				}
			}
			return usagef("there is no command %q: take one of %s", args[0], strings.Join(known, ", "))
		},
	}
}

// between returns a check that there are from least to most arguments. What they are the
// command's line of usage says.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least {
			return usagef("%d of its arguments are missing: %s", least-len(args), cmd.UseLine())
		}
		if len(args) > most {
			return usagef("%q is an argument too many: %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// version is what the tool was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
