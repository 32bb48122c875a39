package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// command is the root of the commands.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:     p.name,
		Short:   p.title(),
		Long:    p.title() + ": a service made with gostream.",
		Version: p.app.Version(),
		// An error is drawn by report.
		SilenceErrors: true,
		SilenceUsage:  true,
		// A call without a command is a mistake: in a container it would end at once.
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(p.err)
			_ = cmd.Usage()
			return wrongf("a command is needed, such as %s run", p.name)
		},
		Args:              p.noSuchCommand,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return p.fromEnvironment(cmd) },
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.SetUsageFunc(drawUsage)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{codeUsage, flagError(cmd, err), cmd.CommandPath() + " --help lists the flags"}
	})
	dead := p.group("dead", "Handle dead letters")
	dead.AddCommand(p.replayCommand())
	root.AddCommand(p.runCommand(), p.describeCommand(), p.checkCommand(), p.asyncapiCommand(), p.publishCommand(), dead)
	nameVariables(root)
	return root
}

// title names the app.
func (p *program) title() string {
	return clean(strings.TrimSpace(p.app.Name() + " " + p.app.Version()))
}

// group is a command that has commands only.
func (p *program) group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: p.noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(p.err)
			_ = cmd.Usage()
			return wrongf("a command is needed after %s", cmd.CommandPath())
		},
	}
}

// noSuchCommand refuses what follows a command that has commands only.
func (p *program) noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := &exitError{code: codeUsage, hint: cmd.CommandPath() + " --help lists the commands"}
	e.err = fmt.Errorf("unknown command %q of %s", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		e.err = fmt.Errorf("%w; did you mean %s?", e.err, strings.Join(like, " or "))
	}
	return e
}

// takes refuses another number of arguments than from least to most. what names them.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := cmd.CommandPath() + " --help says more"
		switch {
		case len(args) < least:
			return &exitError{codeUsage, fmt.Errorf("%s needs %s", cmd.CommandPath(), what), hint}
		case len(args) > most && most == 0:
			return &exitError{codeUsage, fmt.Errorf("%s takes no argument, but got %q", cmd.CommandPath(), args[0]), hint}
		case len(args) > most:
			return &exitError{codeUsage, fmt.Errorf("%s takes %s, but then got %q", cmd.CommandPath(), what, args[most]), hint}
		}
		return nil
	}
}

// flagError says what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown):
		if letters := unknown.GetSpecifiedShortnames(); letters != "" {
			return fmt.Errorf("unknown flag -%s of %s", unknown.GetSpecifiedName(), cmd.CommandPath())
		}
		name := unknown.GetSpecifiedName()
		if like := nearest(cmd, name); like != "" {
			return fmt.Errorf("unknown flag --%s of %s; did you mean --%s?", name, cmd.CommandPath(), like)
		}
		return fmt.Errorf("unknown flag --%s of %s", name, cmd.CommandPath())
	case errors.As(err, &missing):
		return fmt.Errorf("--%s needs a value: %s", missing.GetSpecifiedName(), strings.ReplaceAll(missing.GetFlag().Usage, "`", ""))
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), valueError(invalid.GetFlag(), invalid.Unwrap()))
	}
	return err
}

// valueError says what a flag takes, where the parser's own words do not.
func valueError(f *pflag.Flag, err error) error {
	switch f.Value.Type() {
	case "int":
		return errors.New("a whole number is needed, such as 10")
	case "duration":
		return errors.New("a duration is needed, such as 500ms, 2s or 1m30s")
	case "bool":
		return errors.New("true or false is needed")
	}
	return err
}

// nearest is the flag of cmd that is called almost like name; "" for none.
func nearest(cmd *cobra.Command, name string) string {
	best, at := "", 3
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if d := distance(f.Name, name); d < at {
			best, at = f.Name, d
		}
	})
	return best
}

// distance is how many letters must be put in, taken out or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := above
			if a[i] != b[j] {
				change++
			}
			above = row[j+1]
			row[j+1] = min(change, above+1, row[j]+1)
		}
	}
	return row[len(b)]
}
