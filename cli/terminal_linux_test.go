package cli_test

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
)

// pseudoTerminal returns both ends of one.
func pseudoTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals here: %v", err)
	}
	return screen, terminal
}

// onTerminal returns what a command shows on a terminal.
func onTerminal(t *testing.T, env map[string]string, run func(shown *syncBuffer, s cli.Streams)) string {
	t.Helper()
	screen, terminal := pseudoTerminal(t)
	var shown syncBuffer
	all := make(chan struct{})
	go func() {
		defer close(all)
		_, _ = io.Copy(&shown, screen) // ends with an error when the terminal is closed
	}()
	run(&shown, cli.Streams{Out: terminal, Err: terminal, Getenv: func(name string) string { return env[name] }})
	if err := terminal.Close(); err != nil {
		t.Error(err)
	}
	<-all
	return shown.String()
}

// On a terminal the log and the errors have colours, but not with NO_COLOR.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env      map[string]string
		coloured bool
	}{
		{nil, true},
		{map[string]string{"NO_COLOR": "1"}, false},
		{map[string]string{"TERM": "dumb"}, false},
	} {
		text := onTerminal(t, tt.env, func(shown *syncBuffer, s cli.Streams) {
			app := newShop(memory.New())
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan int, 1)
			go func() { ended <- cli.Run(ctx, app, []string{"run", "--log-level", "info"}, s) }()
			awaitStarted(t, shown, ended)
			cancel()
			if code := <-ended; code != 0 {
				t.Errorf("exit code %d", code)
			}
			if code := cli.Run(ctx, app, []string{"rum"}, s); code != 2 {
				t.Errorf("exit code %d", code)
			}
		})
		if !strings.Contains(text, "starting") || !strings.Contains(text, "drained in ") || !strings.Contains(text, "error:") || strings.Contains(text, "{") {
			t.Errorf("%v: it shows %q", tt.env, text)
		}
		if strings.Contains(text, "\x1b[") != tt.coloured {
			t.Errorf("%v: coloured is not %t: %q", tt.env, tt.coloured, text)
		}
	}
}
