// Package gobuild builds the command in a folder, and tells what it is made of.
package gobuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Error is a build that failed. Its text is what the go command said.
type Error struct {
	Dir    string
	Output string
}

// Error names the folder, and then says what the go command said.
func (e *Error) Error() string {
	return fmt.Sprintf("%s does not build:\n%s", e.Dir, strings.TrimRight(e.Output, "\n"))
}

// Check reports why dir holds no command. Where the go command cannot tell, the build
// will.
func Check(ctx context.Context, dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no folder %s", dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a file: name the folder of a service", dir)
	}
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("the go command is needed to build the service, and is not in PATH")
	}
	// A folder without Go files, and one outside of any module, have no name.
	out, err := output(ctx, dir, "list", "-e", "-f", "{{.Name}}", ".")
	if name := strings.TrimSpace(string(out)); err == nil && name != "main" {
		if name == "" {
			return fmt.Errorf("%s holds no command: there is no Go package in it", dir)
		}
		return fmt.Errorf("%s holds no command: its package is %s, not main", dir, name)
	}
	return nil
}

// Build builds the command in dir into the file out. One that is up to date is left as it
// is. A build that fails is an [*Error].
func Build(ctx context.Context, dir, out string) error {
	if err := Check(ctx, dir); err != nil {
		return err
	}
	cmd := command(ctx, dir, "build", "-o", out, ".")
	said, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &Error{Dir: dir, Output: string(said)}
	}
	return err
}

// command is the go command in dir. Its PWD is dir, so that paths in its messages are short
// where dir is a symbolic link.
func command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second // for what a compiler that was killed leaves open
	return cmd
}

// output is what the go command prints; on failure its error says what it complained of.
func output(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := command(ctx, dir, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out, &Error{Dir: dir, Output: stderr.String()}
	}
	return out, err
}

// Inputs is what a build reads on this machine, outside of the module cache.
type Inputs struct {
	// Dirs are the folders of the packages, and of their modules' go.mod.
	Dirs []string
	// Embeds are folders with files that a package embeds: each file in one counts.
	Embeds []string
	// Incomplete: a package is not there or cannot be read. Dirs then has all folders that
	// may hold it, and a new folder in one counts.
	Incomplete bool
}

// listed is what the go command tells of a package.
type listed struct {
	Dir        string
	Standard   bool
	EmbedFiles []string
	Error      *struct{ Err string }
	Module     *struct {
		Dir     string
		Main    bool
		Replace *struct{ Version string }
	}
}

// FindInputs returns what the command in dir is built from: the packages of its own module
// and of those that its go.mod, or a workspace, takes from a folder.
func FindInputs(ctx context.Context, dir string) (Inputs, error) {
	out, err := output(ctx, dir, "list", "-e", "-deps", "-json=Dir,Standard,EmbedFiles,Module,Error", ".")
	if err != nil {
		return Inputs{}, err
	}
	var in Inputs
	var roots []string // of the modules
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Inputs{}, fmt.Errorf("reading the output of go list: %w", err)
		}
		in.Incomplete = in.Incomplete || p.Error != nil
		local := p.Module != nil && (p.Module.Main || p.Module.Replace != nil && p.Module.Replace.Version == "")
		if p.Standard || p.Dir == "" || !local {
			continue
		}
		in.Dirs = append(in.Dirs, p.Dir)
		if p.Module.Dir != "" {
			in.Dirs = append(in.Dirs, p.Module.Dir)
			roots = append(roots, p.Module.Dir)
		}
		for _, f := range p.EmbedFiles {
			in.Embeds = append(in.Embeds, filepath.Dir(filepath.Join(p.Dir, f)))
		}
	}
	if len(in.Dirs) == 0 {
		return Inputs{}, fmt.Errorf("go list names no package in %s", dir)
	}
	if in.Incomplete {
		slices.Sort(roots)
		for _, root := range slices.Compact(roots) {
			in.Dirs = append(in.Dirs, Folders(root).Dirs...)
		}
	}
	for _, list := range []*[]string{&in.Dirs, &in.Embeds} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return in, nil
}

// Folders returns dir and the folders below it that may hold Go files: what to watch while
// the go command cannot tell.
func Folders(dir string) Inputs {
	in := Inputs{Incomplete: true}
	// What cannot be read is not watched.
	_ = filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if file != dir && !MayHoldGo(d.Name()) {
			return filepath.SkipDir
		}
		in.Dirs = append(in.Dirs, file)
		return nil
	})
	return in
}

// MayHoldGo reports whether a folder of that name may hold packages that are being written.
func MayHoldGo(name string) bool {
	return !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "_") &&
		!slices.Contains([]string{"data", "node_modules", "testdata", "vendor"}, name)
}
