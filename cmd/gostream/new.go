package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream/cmd/gostream/internal/scaffold"
)

func newNew() *cobra.Command {
	var (
		c        scaffold.Config
		checkout string
		noTidy   bool
	)
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Begin a project: a small service with tests, that runs at once",
		Long: `Begin a project: a service that confirms orders, with handlers, routes, tests, a README
and a Dockerfile, in a new folder NAME. NAME may be a path; its last element is the
name of the project. After a failure nothing is left behind.

  memory         the broker is in the process, and its messages end with it
  nats           a NATS server with JetStream, at NATS_URL
  nats-embedded  a NATS server that the service itself starts: nothing to install,
                 and messages outlive the process
  kafka          a Kafka cluster, at KAFKA_BROKERS

gostream has no release yet: the project's go.mod refers to the checkout that this tool
was built from, or to the one of --gostream.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return begin(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), c, args[0], checkout, !noTidy)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Broker, "broker", scaffold.DefaultBroker, strings.Join(scaffold.Brokers(), ", "))
	f.StringVar(&c.Module, "module", "", "module `path`; by default the name")
	f.StringVar(&checkout, "gostream", "", "`folder` of a checkout of gostream to use")
	f.BoolVar(&noTidy, "no-tidy", false, `do not run "go mod tidy", which may need the network`)
	return cmd
}

// begin writes the project and says how to go on.
func begin(ctx context.Context, stdout, stderr io.Writer, c scaffold.Config, dir, checkout string, tidy bool) (err error) {
	if c.Dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	// A path that ends in a dot or is empty has another name than it seems.
	if name := filepath.Base(filepath.FromSlash(dir)); name != filepath.Base(c.Dir) || strings.TrimSpace(dir) == "" {
		return usagef("%q is no name of a folder to make", dir)
	}
	var originErr error
	c.Gostream, originErr = scaffold.FindOrigin(checkout)
	if err := errors.Join(c.Check(), originErr); err != nil {
		return &usageError{error: err}
	}
	if err := scaffold.Write(c); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s is written: a service on %s\n", dir, c.Broker)
	if !tidy {
		fmt.Fprintf(stdout, "\n  cd %s\n  go mod tidy\n  go test ./...\n  go run . run\n", shellWord(dir))
		return nil
	}
	if err := goModTidy(ctx, c.Dir); err != nil {
		complain(stderr, err)
		fmt.Fprintf(stderr, "gostream: the project is there, but its modules are not: when the reason is gone, run \"go mod tidy\" in %s\n", dir)
		return exitCode(exitFailure)
	}
	if work := workspace(ctx, c.Dir); work != "" {
		fmt.Fprintf(stderr, "gostream: the folder is below the workspace %s, which has to know it: go work use %s\n", work, shellWord(dir))
	}
	fmt.Fprintf(stdout, "\n  cd %s\n  go test ./...\n  go run . run\n", shellWord(dir))
	return nil
}

func goModTidy(ctx context.Context, dir string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("the go command is not in PATH")
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "tidy")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go mod tidy: %w\n%s", err, out)
	}
	return nil
}

// workspace returns the go.work that holds in dir, "" for none.
func workspace(ctx context.Context, dir string) string {
	cmd := exec.CommandContext(ctx, "go", "env", "GOWORK")
	cmd.Dir = dir
	out, err := cmd.Output()
	work := strings.TrimSpace(string(out))
	if err != nil || work == "off" {
		return ""
	}
	return work
}

// shellWord is a path as it is typed.
func shellWord(path string) string {
	if strings.ContainsAny(path, " \t'()&;$`*?") {
		return strconv.Quote(path)
	}
	return path
}
