// Command generate makes the folder assets of package viewer from the npm tarball of the
// component that shows AsyncAPI documents. It uses no network itself: npm, which knows
// where packages come from, fetches the tarball.
//
//	npm pack @asyncapi/react-component@3.2.1
//	go run ./internal/generate -tarball asyncapi-react-component-3.2.1.tgz -out assets
//
// Without -tarball it calls npm itself, in a folder of its own. The result depends on the
// tarball and on Go's version alone.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

// The component, and the integrity that the registry has recorded for it: another
// version needs both lines, and a look at what its Content-Security-Policy must allow.
const (
	component = "@asyncapi/react-component@3.2.1"
	integrity = "sha512-k5ZqJd6+oxYaQ2o6F3rGWJ1MTIjXdpsUYB3NKQbVqr4yzrN0Ovj5c7eZx8NGd3wfKPhbOrLREtYl9K2OPfnSsA=="
)

// limit bounds a file of the tarball, unpacked.
const limit = 16 << 20

// A taken file goes from the tarball into assets.
type taken struct {
	from, to string
	pack     bool // gzipped, and recorded in sumsFile
}

var files = []taken{
	{"package/LICENSE", "LICENSE.txt", false},
	{"package/browser/standalone/index.js", "component.js", true},
	{"package/browser/standalone/index.js.LICENSE.txt", "component.js.LICENSE.txt", false},
	{"package/styles/default.min.css", "component.css", true},
}

// sumsFile has the SHA-256 of each packed file as it is unpacked, as sha256sum writes it.
const sumsFile = "SHA256SUMS"

func main() {
	tarball := flag.String("tarball", "", "the tarball of "+component+"; empty: npm fetches it")
	out := flag.String("out", "assets", "the folder to write to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *tarball, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, tarball, out string) error {
	if tarball == "" {
		dir, err := os.MkdirTemp("", "viewer")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if tarball, err = fetch(ctx, dir); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(tarball)
	if err != nil {
		return err
	}
	if err := check(data, integrity); err != nil {
		return fmt.Errorf("%s: %w", tarball, err)
	}
	contents, err := unpack(data, files)
	if err != nil {
		return fmt.Errorf("%s: %w", tarball, err)
	}
	return write(out, files, contents)
}

// fetch calls npm in dir and returns the path of the tarball.
func fetch(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "npm", "pack", "--silent", component)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	name, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("npm pack %s: %w", component, err)
	}
	return filepath.Join(dir, strings.TrimSpace(string(name))), nil
}

// check compares data with an integrity as package-lock.json has it.
func check(data []byte, want string) error {
	sum := sha512.Sum512(data)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != want {
		return fmt.Errorf("its integrity is %s, want %s", got, want)
	}
	return nil
}

// unpack returns the contents of the wanted files by their names in the tarball.
func unpack(tarball []byte, wanted []taken) (map[string][]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(tarball))
	if err != nil {
		return nil, err
	}
	contents := make(map[string][]byte)
	for archive := tar.NewReader(z); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(wanted, func(f taken) bool { return f.from == header.Name }) {
			continue
		}
		if header.Size > limit {
			return nil, fmt.Errorf("%s has %d bytes, more than %d", header.Name, header.Size, limit)
		}
		if contents[header.Name], err = io.ReadAll(archive); err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	for _, f := range wanted {
		if len(contents[f.from]) == 0 {
			return nil, fmt.Errorf("there is no %s in it, or it is empty", f.from)
		}
	}
	return contents, nil
}

// write writes the files and their sums.
func write(out string, wanted []taken, contents map[string][]byte) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, f := range wanted {
		data, name := contents[f.from], f.to
		if f.pack {
			fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), name)
			var err error
			if data, err = compress(data); err != nil {
				return err
			}
			name += ".gz"
		}
		if err := os.WriteFile(filepath.Join(out, name), data, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(out, sumsFile), sums.Bytes(), 0o644)
}

// compress gzips without a name or a time, so that the same data gives the same bytes.
func compress(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
