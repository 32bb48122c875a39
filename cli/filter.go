package cli

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// filter says which dead letters are replayed: all conditions hold.
type filter struct {
	conditions []condition
	payload    *regexp.Regexp // nil: any
}

// condition is one of --filter.
type condition struct {
	header string
	equal  string
	like   *regexp.Regexp // in place of equal
}

// deadWords are the headers of dead letters as --filter calls them.
var deadWords = map[string]string{
	"reason":       gostream.HeaderDeadReason,
	"error":        gostream.HeaderDeadError,
	"source":       gostream.HeaderDeadSource,
	"subscription": gostream.HeaderDeadSubscription,
	"attempts":     gostream.HeaderDeadAttempts,
	"time":         gostream.HeaderDeadTime,
}

func parseFilter(cmd *cobra.Command, filters []string, match string) (f filter, err error) {
	for _, text := range filters {
		bad := func(why string) (filter, error) {
			return f, wrongf("%s %q: %s", given(cmd, "filter"), text, why)
		}
		at := strings.IndexAny(text, "=~")
		if at < 0 {
			return bad("a filter is key=value, or key~regexp")
		}
		key, value := text[:at], text[at+1:]
		c := condition{header: deadWords[key], equal: value}
		if name, ok := strings.CutPrefix(key, "header."); ok {
			c.header = name
		}
		if c.header == "" {
			return bad("the key must be reason, error, source, subscription, attempts, time or header.KEY")
		}
		if text[at] == '~' {
			if c.like, err = regexp.Compile(value); err != nil {
				return bad(err.Error())
			}
		}
		f.conditions = append(f.conditions, c)
	}
	if match != "" {
		if f.payload, err = regexp.Compile(match); err != nil {
			return f, mistake(cmd, "match", "%w", err)
		}
	}
	return f, nil
}

// matches reports whether m is to be replayed.
func (f *filter) matches(m broker.IncomingMessage) bool {
	headers := m.Headers()
	for _, c := range f.conditions {
		fits := func(v string) bool { return v == c.equal }
		if c.like != nil {
			fits = c.like.MatchString
		}
		if !slices.ContainsFunc(headers.Values(c.header), fits) {
			return false
		}
	}
	return f.payload == nil || f.payload.Match(m.Payload())
}

// parseRate reads "50/s", "600/m", "1000/h" or "50", which is for a second, and returns the
// time between two messages; 0 for "".
func parseRate(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	number, unit, _ := strings.Cut(text, "/")
	each, known := map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !known || strings.HasSuffix(text, "/") || !(n > 0) || n > 1e9 {
		return 0, errors.New("a rate is a number of messages in a second, minute or hour, such as 50/s, 600/m or 1000/h")
	}
	interval := float64(each) / n
	if interval > float64(100*365*24*time.Hour) {
		return 0, errors.New("it is too low")
	}
	return time.Duration(interval), nil
}
