package cli_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
)

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// A command that is asked for something, and cannot write it, has failed.
func TestOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"check", "describe", "describe --json", "asyncapi gen"} {
		var errs strings.Builder
		code := cli.Run(t.Context(), newShop(newServer(memory.NewStore())), strings.Fields(args), cli.Streams{Out: fullDisk{}, Err: &errs})
		if code != 1 || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%s: code %d, %q; want 1 and the reason", args, code, errs.String())
		}
	}
}
