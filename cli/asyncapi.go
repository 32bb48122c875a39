package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream/asyncapi"
)

var (
	documentFormats  = []string{"json", "yaml"}
	documentVersions = []string{"3.0.0", "3.1.0"}
)

func (p *program) asyncapiCommand() *cobra.Command {
	var format, output, version string
	gen := &cobra.Command{
		Use:   "gen",
		Short: "Write the app's AsyncAPI document",
		Long: `Write the AsyncAPI document of the app: its servers, channels, operations and the schemas of
its messages. It opens no connection and calls no hook. The same app gives the same bytes
each time.`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(documentFormats, format) {
				return mistake(cmd, "format", "it must be json or yaml")
			}
			opts := p.settings.asyncapi
			if cmd.Flags().Changed("version") {
				if !slices.Contains(documentVersions, version) {
					return mistake(cmd, "version", "it must be 3.0.0 or 3.1.0")
				}
				opts = append(opts[:len(opts):len(opts)], asyncapi.Version(version))
			}
			return p.document(format, output, opts)
		},
	}
	flags := gen.Flags()
	flags.StringVar(&format, "format", "json", "the `format`: json or yaml")
	flags.StringVar(&output, "output", "", "the `file` that is written, whole or not at all; the default is the standard output")
	flags.StringVar(&version, "version", "", "the `version` of AsyncAPI: 3.0.0 or 3.1.0; the default is the program's, else 3.0.0")
	noFiles := cobra.ShellCompDirectiveNoFileComp
	_ = gen.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(documentFormats, noFiles))
	_ = gen.RegisterFlagCompletionFunc("version", cobra.FixedCompletions(documentVersions, noFiles))

	cmd := p.group("asyncapi", "Document the app")
	cmd.AddCommand(gen)
	return cmd
}

// document writes the document to output, or to out where output is "".
func (p *program) document(format, output string, opts []asyncapi.Option) error {
	d, err := p.describe()
	if err != nil {
		return err
	}
	spec, err := asyncapi.Document(d, opts...)
	if err != nil {
		return wrong(err)
	}
	encode := spec.JSON
	if format == "yaml" {
		encode = spec.YAML
	}
	data, err := encode()
	if err != nil {
		return failed(fmt.Errorf("the document as %s: %w", format, err))
	}
	if output == "" {
		if _, err := p.out.Write(data); err != nil {
			return failed(err)
		}
		return nil
	}
	if err := writeFile(output, data); err != nil {
		return failed(fmt.Errorf("write the document: %w", err))
	}
	return nil
}

// writeFile replaces the file at path: whoever reads it sees the old or the new, whole. A
// link stays one. What is no regular file, such as /dev/stdout, is written to.
func writeFile(path string, data []byte) (err error) {
	mode := os.FileMode(0o644)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return writeInto(path, data)
		}
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func writeInto(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
