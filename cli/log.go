package cli

import (
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
)

// logFlags are those of the log.
type logFlags struct{ level, format string }

var (
	levels  = []string{"debug", "info", "warn", "error"}
	formats = []string{"auto", "json", "text"}
)

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.level, "log-level", "info", "the `level` of what is logged, and what is above: debug, info, warn, error")
	cmd.Flags().StringVar(&f.format, "log-format", "auto", "the `format`: text, json, or auto, which is text on a terminal")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(levels, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// logger returns the logger of the app, and whether it is ours and writes JSON. Ours is
// given to an app that has none: neither by [gostream.WithLogger] nor as slog's default.
func (p *program) logger(cmd *cobra.Command, f logFlags) (log *slog.Logger, asJSON bool, err error) {
	var level slog.Level
	if level.UnmarshalText([]byte(f.level)) != nil {
		return nil, false, mistake(cmd, "log-level", "it must be debug, info, warn or error")
	}
	if !slices.Contains(formats, f.format) {
		return nil, false, mistake(cmd, "log-format", "it must be auto, json or text")
	}
	asJSON = f.format == "json" || f.format == "auto" && !p.errTerminal
	var h slog.Handler
	if asJSON {
		h = slog.NewJSONHandler(p.err, &slog.HandlerOptions{Level: level})
	} else {
		h = tint.NewTextHandler(p.err, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: !bool(p.paint)})
	}
	ours := slog.New(h)
	log = ours
	if isGos(slog.Default()) {
		log = p.app.DefaultLogger(ours)
	} else {
		log = p.app.DefaultLogger(nil)
	}
	if log != ours {
		for _, name := range []string{"log-level", "log-format"} {
			if cmd.Flags().Changed(name) && given(cmd, name) == "--"+name {
				return nil, false, wrongf("--%s does nothing: the program has a logger of its own", name)
			}
		}
		return log, false, nil
	}
	if p.owner {
		slog.SetDefault(ours) // what handlers log themselves
	}
	return log, asJSON, nil
}

// isGos reports the logger that slog begins with, which the program did not choose.
func isGos(l *slog.Logger) bool {
	return reflect.TypeOf(l.Handler()).String() == "*slog.defaultHandler"
}
