package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream/cmd/gostream/internal/gobuild"
)

func newDescribe() *cobra.Command {
	return &cobra.Command{
		Use:   "describe [DIR] [-- ARGS]",
		Short: "Say what a service consists of",
		Long: `Build the service in DIR, by default this folder, and show what its command "describe"
says with ARGS. It connects to nothing.`,
		Args: func(cmd *cobra.Command, args []string) error {
			dirs, _ := split(cmd, args)
			return between(0, 1)(cmd, dirs)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dirs, rest := split(cmd, args)
			s, err := openService(cmd.Context(), first(dirs))
			if err != nil {
				return err
			}
			defer s.close()
			return s.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), append([]string{"describe"}, rest...)...)
		},
	}
}

// service is a service in a folder, whose commands are run. It is safe for concurrent use.
type service struct {
	name     string // of the folder, as the user has it
	dir, tmp string
	building sync.Mutex
}

// openService returns the service in dir; a folder that holds none is a mistake. The
// caller owes a close.
func openService(ctx context.Context, name string) (*service, error) {
	if err := gobuild.Check(ctx, name); err != nil {
		return nil, &usageError{error: err}
	}
	dir, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "gostream-build-*")
	if err != nil {
		return nil, err
	}
	return &service{name: name, dir: dir, tmp: tmp}, nil
}

func (s *service) close() { _ = os.RemoveAll(s.tmp) } // it is the system's folder for such files

// build returns the program, built anew where something has changed.
func (s *service) build(ctx context.Context) (string, error) {
	s.building.Lock()
	defer s.building.Unlock()
	program := filepath.Join(s.tmp, "service")
	if filepath.Separator == '\\' {
		program += ".exe"
	}
	return program, named(gobuild.Build(ctx, s.dir, program), s.name)
}

// named has a build's error name the folder as the user does.
func named(err error, name string) error {
	if failed := (*gobuild.Error)(nil); errors.As(err, &failed) {
		failed.Dir = name
	}
	return err
}

// run builds the service and runs it with args in its folder. A code other than 0 that it
// ends with is an exitCode: it has said why.
func (s *service) run(ctx context.Context, stdout, stderr io.Writer, args ...string) error {
	program, err := s.build(ctx)
	if err != nil {
		return err
	}
	return s.exec(ctx, program, stdout, stderr, args...)
}

func (s *service) exec(ctx context.Context, program string, stdout, stderr io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return exitCode(exit.ExitCode())
	}
	return err
}

// genTimeout bounds "asyncapi gen", which connects to nothing; the build is not bounded.
const genTimeout = 30 * time.Second

// document returns the AsyncAPI document of the service.
func (s *service) document(ctx context.Context) ([]byte, error) {
	program, err := s.build(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, genTimeout, fmt.Errorf("it has not ended within %v", genTimeout))
	defer cancel()
	var stdout, stderr bytes.Buffer
	err = s.exec(ctx, program, &stdout, &stderr, "asyncapi", "gen")
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	// %v: the code of the service is not that of this tool.
	if said := strings.TrimSpace(stderr.String()); said != "" {
		return nil, fmt.Errorf("%s asyncapi gen: %v:\n%s", s.name, err, said)
	}
	return nil, fmt.Errorf("%s asyncapi gen: %v", s.name, err)
}
