package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pack makes a tarball of names and contents.
func pack(t *testing.T, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	archive := tar.NewWriter(z)
	for i := 0; i < len(entries); i += 2 {
		if err := archive.WriteHeader(&tar.Header{Name: entries[i], Size: int64(len(entries[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(entries[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackAndWrite(t *testing.T) {
	t.Parallel()
	wanted := []taken{{"package/a.js", "component.js", true}, {"package/LICENSE", "LICENSE.txt", false}}
	script := strings.Repeat("let a = 1;\n", 1000)
	contents, err := unpack(pack(t, "package/b.js", "other", "package/a.js", script, "package/LICENSE", "free"), wanted)
	if err != nil {
		t.Fatal(err)
	}
	var written []map[string]string
	for range 2 {
		dir, files := t.TempDir(), make(map[string]string)
		if err := write(dir, wanted, contents); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[e.Name()] = string(data)
		}
		written = append(written, files)
	}
	got := written[0]
	if len(got) != 3 || got["LICENSE.txt"] != "free" || got["SHA256SUMS"] != fmt.Sprintf("%x  component.js\n", sha256.Sum256([]byte(script))) {
		t.Errorf("written was %q", got)
	}
	z, err := gzip.NewReader(strings.NewReader(got["component.js.gz"]))
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(z); err != nil || string(data) != script {
		t.Errorf("the script unpacks to %d bytes: %v", len(data), err)
	}
	if got["component.js.gz"] != written[1]["component.js.gz"] {
		t.Error("the same script was packed in two ways")
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	wanted := []taken{{"package/a.js", "a.js", true}}
	for name, tt := range map[string]struct {
		tarball []byte
		want    string
	}{
		"no tarball": {[]byte("this is no tarball"), "gzip: invalid header"},
		"missing":    {pack(t, "package/b.js", "x"), "there is no package/a.js in it"},
		"empty":      {pack(t, "package/a.js", ""), "or it is empty"},
		"cut":        {pack(t, "package/a.js", strings.Repeat("x", 5000))[:20], "unexpected EOF"},
		"too large":  {pack(t, "package/a.js", strings.Repeat("x", limit+1)), "more than 16777216"},
	} {
		if _, err := unpack(tt.tarball, wanted); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// A tarball of another integrity is refused before anything is written.
func TestIntegrity(t *testing.T) {
	t.Parallel()
	// The SHA-512 of nothing.
	const empty = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
	if err := check(nil, empty); err != nil {
		t.Error(err)
	}
	if err := check([]byte("x"), empty); err == nil {
		t.Error("another content has the same integrity")
	}
	dir := t.TempDir()
	tarball, out := filepath.Join(dir, "x.tgz"), filepath.Join(dir, "out")
	if err := os.WriteFile(tarball, pack(t, "package/LICENSE", "x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), tarball, out); err == nil || !strings.Contains(err.Error(), "its integrity is sha512-") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("the folder was written: %v", err)
	}
}
