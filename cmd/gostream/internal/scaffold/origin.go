package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// corePath is the module path of the core; those of all other modules begin with it.
const corePath = "github.com/gostream/gostream"

// Origin is where a project's gostream comes from: one of a release and a checkout.
type Origin struct {
	// Version is a released version.
	Version string
	// Checkout is the folder of a checkout, an absolute path.
	Checkout string
}

// FindOrigin returns where gostream comes from: the checkout that the user names, else the
// release that this tool is of, else the checkout that it was built from.
func FindOrigin(checkout string) (Origin, error) {
	if checkout != "" {
		dir, err := filepath.Abs(checkout)
		if err != nil {
			return Origin{}, err
		}
		if !isCheckout(dir) {
			return Origin{}, fmt.Errorf("--gostream %s is no checkout of gostream: its go.mod must be that of %s", checkout, corePath)
		}
		return Origin{Checkout: dir}, nil
	}
	if info, ok := debug.ReadBuildInfo(); ok && isRelease(info.Main.Version) {
		return Origin{Version: info.Main.Version}, nil
	}
	_, file, _, ok := runtime.Caller(0)
	for dir := filepath.Dir(file); ok && filepath.IsAbs(dir); dir = filepath.Dir(dir) {
		if isCheckout(dir) {
			return Origin{Checkout: dir}, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return Origin{}, errors.New("gostream has no release yet, and the checkout that this tool was built from cannot be found: say with --gostream where one is")
}

// isRelease reports a version that a module proxy has: no build from a checkout.
func isRelease(version string) bool {
	return semver.IsValid(version) && !module.IsPseudoVersion(version) && semver.Build(version) == ""
}

// isCheckout reports whether dir holds the core module.
func isCheckout(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && modfile.ModulePath(text) == corePath
}

// modules returns the go.mod of a project that needs the core, cli and, unless it is "",
// one more of gostream's modules, a go.sum to begin with, and the Go version as image tags
// have it.
func (o Origin) modules(modulePath, extra string) (goMod, goSum []byte, goVersion string, err error) {
	var direct []string
	for _, m := range []string{"", extra, "cli"} {
		if m != "" || len(direct) == 0 {
			direct = append(direct, m)
		}
	}
	f := new(modfile.File)
	if err := f.AddModuleStmt(modulePath); err != nil {
		return nil, nil, "", err
	}
	if o.Checkout == "" {
		err = o.release(f, direct)
	} else {
		goSum, err = o.checkout(f, direct)
	}
	if err != nil {
		return nil, nil, "", err
	}
	f.Cleanup()
	goMod, err = f.Format()
	// 1.26.0 is 1.26 there.
	return goMod, goSum, strings.TrimPrefix(semver.MajorMinor("v"+f.Go.Version), "v"), err
}

// release requires the modules in the version. "go mod tidy" adds what they need.
func (o Origin) release(f *modfile.File, direct []string) error {
	lang := strings.TrimPrefix(version.Lang(runtime.Version()), "go")
	if lang == "" { // a development version of Go
		lang = "1.26"
	}
	if err := f.AddGoStmt(lang); err != nil {
		return err
	}
	for _, m := range direct {
		f.AddNewRequire(path.Join(corePath, m), o.Version, false)
	}
	return nil
}

// checkout requires the modules, and replaces them and those modules of gostream that they
// need by folders of the checkout: a replace line holds in the main module only. It
// returns the checksums that the checkout has, so that a machine which has built it needs
// no network.
func (o Origin) checkout(f *modfile.File, direct []string) (goSum []byte, err error) {
	goVersion := "1.25.0"
	var sums []string
	needed := slices.Clone(direct)
	for i := 0; i < len(needed); i++ {
		dir := filepath.Join(o.Checkout, filepath.FromSlash(needed[i]))
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil {
			return nil, fmt.Errorf("the checkout of gostream in %s is not complete: %w", o.Checkout, err)
		}
		m, err := modfile.Parse(filepath.Join(dir, "go.mod"), text, nil)
		if err != nil {
			return nil, err
		}
		if m.Go != nil && semver.Compare("v"+m.Go.Version, "v"+goVersion) > 0 {
			goVersion = m.Go.Version
		}
		for _, r := range m.Require {
			if below, ok := strings.CutPrefix(r.Mod.Path, corePath+"/"); ok && !slices.Contains(needed, below) {
				needed = append(needed, below)
			}
		}
		sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		sums = append(sums, strings.Split(string(sum), "\n")...)
	}
	if err := f.AddGoStmt(goVersion); err != nil {
		return nil, err
	}
	for _, m := range direct {
		f.AddNewRequire(path.Join(corePath, m), "v0.0.0", false)
	}
	for _, m := range needed {
		folder := filepath.ToSlash(filepath.Join(o.Checkout, filepath.FromSlash(m)))
		if err := f.AddReplace(path.Join(corePath, m), "", folder, ""); err != nil {
			return nil, err
		}
	}
	slices.Sort(sums)
	sums = slices.DeleteFunc(slices.Compact(sums), func(line string) bool { return line == "" })
	var out bytes.Buffer
	for _, line := range sums {
		out.WriteString(line + "\n")
	}
	return out.Bytes(), nil
}
