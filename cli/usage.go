package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// drawUsage writes how cmd is called: what --help shows after the description. Cobra's own
// does not wrap, and its templates would make every user's binary larger.
func drawUsage(cmd *cobra.Command) error {
	w := cmd.OutOrStdout()
	fmt.Fprintln(w, "Usage:")
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s COMMAND [flags]\n", cmd.CommandPath())
	} else {
		fmt.Fprintf(w, "  %s\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintln(w, "\nCommands:")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() || c.Name() == "help" {
				fmt.Fprintf(w, "  %-12s %s\n", c.Name(), c.Short)
			}
		}
	}
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(w, "\nFlags (the variable in brackets holds where the flag is not given):\n%s\n",
			strings.TrimRight(cmd.LocalFlags().FlagUsagesWrapped(width), " \n"))
	}
	return nil
}
