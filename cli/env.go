package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of flags.
const (
	// envKey holds the variable of a flag.
	envKey = "gostream-env"
	// setByEnv says that the variable gave the value.
	setByEnv = "gostream-set-by-env"
	// exclusiveKey holds the flags of which one at most is given.
	exclusiveKey = "gostream-exclusive"
)

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "GOSTREAM_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// nameVariables gives every flag its variable and says so in its usage.
func nameVariables(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		annotate(f, envKey, variable(f.Name))
		f.Usage += " [" + variable(f.Name) + "]"
	})
	for _, c := range cmd.Commands() {
		nameVariables(c)
	}
}

func annotate(f *pflag.Flag, key string, values ...string) {
	if f.Annotations == nil {
		f.Annotations = make(map[string][]string)
	}
	f.Annotations[key] = values
}

// exclusive marks flags of which one at most is given: one on the command line beats the
// variables of all.
func exclusive(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		annotate(cmd.Flags().Lookup(name), exclusiveKey, names...)
	}
}

// fromEnvironment sets the flags that the command line does not. An empty variable is none.
func (p *program) fromEnvironment(cmd *cobra.Command) error {
	given := make(map[string]bool) // on the command line
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = true })
	var first error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := f.Annotations[envKey]
		if name == nil || given[f.Name] || first != nil {
			return
		}
		for _, other := range f.Annotations[exclusiveKey] {
			if given[other] {
				return
			}
		}
		value := p.getenv(name[0])
		if value == "" {
			return
		}
		if err := f.Value.Set(value); err != nil {
			first = wrong(fmt.Errorf("%s=%q in the environment: %w", name[0], value, valueError(f, err)))
			return
		}
		f.Changed = true
		annotate(f, setByEnv, "true")
	})
	return first
}

// atMostOne refuses two of the flags that [exclusive] has marked.
func atMostOne(cmd *cobra.Command, a, b string) error {
	if cmd.Flags().Changed(a) && cmd.Flags().Changed(b) {
		return wrongf("%s together with %s: give one of them", given(cmd, a), given(cmd, b))
	}
	return nil
}

// given names a flag as it was given: by its variable where that set it.
func given(cmd *cobra.Command, name string) string {
	if f := cmd.Flags().Lookup(name); f != nil && f.Annotations[setByEnv] != nil {
		return variable(name)
	}
	return "--" + name
}

// mistake is a value of a flag that cannot be honoured, named as it was given.
func mistake(cmd *cobra.Command, name, format string, args ...any) error {
	return wrong(fmt.Errorf("%s %q: %w", given(cmd, name), cmd.Flags().Lookup(name).Value.String(), fmt.Errorf(format, args...)))
}
