package cli_test

import (
	"strings"
	"testing"

	"github.com/gostream/gostream/memory"
)

func TestHelp(t *testing.T) {
	t.Parallel()
	for name, args := range map[string]string{
		"help.golden":          "--help",
		"help-run.golden":      "run --help",
		"help-describe.golden": "describe --help",
		"help-check.golden":    "check --help",
		"help-publish.golden":  "publish --help",
		"help-replay.golden":   "dead replay --help",
		"help-asyncapi.golden": "asyncapi gen --help",
	} {
		got := call(t, newShop(memory.New()), strings.Fields(args)...)
		got.want(t, 0, "Usage:", "")
		golden(t, name, got.out)
	}
	call(t, newShop(memory.New()), "--version").want(t, 0, "shop version 1.4.0\n", "")
}

// What is wrong with a call, and what is said of it.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		env  string // NAME=value
		want string
	}{
		{"", "", "error: a command is needed, such as shop run\n"},
		{"dead", "", "error: a command is needed after shop dead\n"},
		{"rum", "", "error: unknown command \"rum\" of shop; did you mean run?\n  shop --help lists the commands\n"},
		{"xyz", "", "error: unknown command \"xyz\" of shop\n"},
		{"dead repaly x", "", "error: unknown command \"repaly\" of shop dead; did you mean replay?\n"},
		{"run --opps :1", "", "error: unknown flag --opps of shop run; did you mean --ops?\n  shop run --help lists the flags\n"},
		{"run --nonsense", "", "error: unknown flag --nonsense of shop run\n"},
		{"run -x", "", "error: unknown flag -x of shop run\n"},
		{"run --ops", "", "error: --ops needs a value: address of"},
		{"run now", "", "error: shop run takes no argument, but got \"now\"\n"},
		{"run --ops 8081", "", "error: --ops \"8081\": an address with a port is needed, such as :8081 or 127.0.0.1:8081\n"},
		{"run --ops :99999", "", "error: --ops \":99999\": the port must be a number from 0 to 65535\n"},
		{"run", "GOSTREAM_OPS=8081", "error: GOSTREAM_OPS \"8081\": an address with a port"},
		{"run --log-level loud", "", "error: --log-level \"loud\": it must be debug, info, warn or error\n"},
		{"run", "GOSTREAM_LOG_LEVEL=loud", "error: GOSTREAM_LOG_LEVEL \"loud\": it must be"},
		{"run --log-format xml", "", "error: --log-format \"xml\": it must be auto, json or text\n"},
		{"describe --json=maybe", "", "error: --json \"maybe\": true or false is needed\n"},
		{"describe", "GOSTREAM_JSON=maybe", "error: GOSTREAM_JSON=\"maybe\" in the environment: true or false is needed\n"},
		{"describe me", "", "takes no argument"},

		{"publish", "", "error: shop publish needs the name to publish to"},
		{"publish a b c", "", "error: shop publish takes the name to publish to, and - for the standard input, but then got \"c\"\n"},
		{"publish orders", "", "error: there is no payload: give it with --data, --file, or - for the standard input\n"},
		{"publish orders {}", "", "error: after the name comes nothing, or - for the standard input; got \"{}\"\n  the payload of a message is given with --data\n"},
		{"publish orders - --data x", "", "error: - together with --data: give one of them\n"},
		{"publish orders --file f --data x", "", "error: --data together with --file: give one of them\n"},
		{"publish orders --data x --header novalue", "", "error: --header \"novalue\": a header is key=value\n"},
		{"publish orders --data x --header =v", "", "a header is key=value"},
		{"publish orders --data x", "GOSTREAM_HEADER=novalue", "error: GOSTREAM_HEADER \"novalue\": a header is key=value\n"},
		{"publish orders --data x --header content-type=a/b --content-type a/c", "", "error: --content-type together with the header content-type: give one of them\n"},
		{"publish orders --data x --timeout 0s", "", "error: --timeout \"0s\": it must be positive\n"},
		{"publish orders --data x --timeout soon", "", "error: --timeout \"soon\": a duration is needed, such as 500ms, 2s or 1m30s\n"},
		{"publish orders --data x --broker 2", "", "error: --broker \"2\": there is no broker of that number\n  - --broker 1  post  127.0.0.1:2525\n"},
		{"publish orders --data x --broker nats", "", "error: --broker \"nats\": there is no broker of that kind\n"},
		{"publish orders.* --data {}", "", "invalid"},

		{"dead replay", "", "error: shop dead replay needs the name of the dead letters\n"},
		{"dead replay orders.dead", "", "error: say where the messages go: --to NAME, or --to-source for where each came from\n"},
		{"dead replay orders.dead --to a --to-source", "", "error: --to together with --to-source: give one of them\n"},
		{"dead replay orders.dead --to orders.dead", "", "error: --to: \"orders.dead\" comes back to the dead letters of \"orders.dead\"\n"},
		{"dead replay orders.dead --to a.*", "", "error: --to: "},
		{"dead replay orders.dead --to a --limit -1", "", "error: --limit \"-1\": it must not be negative\n"},
		{"dead replay orders.dead --to a --limit ten", "", "error: --limit \"ten\": a whole number is needed, such as 10\n"},
		{"dead replay orders.dead --to a", "GOSTREAM_LIMIT=ten", "error: GOSTREAM_LIMIT=\"ten\" in the environment: a whole number is needed, such as 10\n"},
		{"dead replay orders.dead --to a --wait 0s", "", "error: --wait \"0s\": it must be positive\n"},
		{"dead replay orders.dead --to a --timeout -1s", "", "error: --timeout \"-1s\": it must be positive\n"},
		{"dead replay orders.dead --to a --rate fast", "", "error: --rate \"fast\": a rate is a number of messages"},
		{"dead replay orders.dead --to a --filter reason", "", "error: --filter \"reason\": a filter is key=value, or key~regexp\n"},
		{"dead replay orders.dead --to a --filter reson=x", "", "error: --filter \"reson=x\": the key must be reason, error, source"},
		{"dead replay orders.dead --to a --filter reason~(", "", "error: --filter \"reason~(\": error parsing regexp"},
		{"dead replay orders.dead --to a --match (", "", "error: --match \"(\": error parsing regexp"},
	} {
		t.Run(tt.args+" "+tt.env, func(t *testing.T) {
			t.Parallel()
			name, value, _ := strings.Cut(tt.env, "=")
			c := command{app: newShop(newServer(memory.NewStore())), args: strings.Fields(tt.args), env: map[string]string{name: value}}
			got := c.run(t)
			if got.code != 2 || got.out != "" || !strings.Contains(got.err, tt.want) {
				t.Errorf("exit code %d, out %q, err\n%s\nwant\n%s", got.code, got.out, got.err, tt.want)
			}
		})
	}
}

// A flag beats the environment, also one that excludes another.
func TestFlagBeatsEnvironment(t *testing.T) {
	t.Parallel()
	app := newShop(newServer(memory.NewStore()))
	env := map[string]string{"GOSTREAM_JSON": "true"}
	command{app: app, args: []string{"describe"}, env: env}.run(t).want(t, 0, `"name": "shop"`, "")
	command{app: app, args: []string{"describe", "--json=false"}, env: env}.run(t).want(t, 0, "shop 1.4.0\n", "")
	env = map[string]string{"GOSTREAM_DATA": "{", "GOSTREAM_FILE": "/none"}
	command{app: app, args: []string{"publish", "orders"}, env: env}.run(t).want(t, 2, "", "GOSTREAM_DATA together with GOSTREAM_FILE: give one of them")
	command{app: app, args: []string{"publish", "orders", "--data", "{}"}, env: env}.run(t).want(t, 0, "published 1 message", "")
	command{app: newShop(newServer(memory.NewStore())), args: []string{"publish", "orders", "-"}, in: "{}", env: env}.run(t).want(t, 0, "published 1 message", "")
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	app, _ := bigShop()
	for _, tt := range []struct{ args, want string }{
		{"run --log-level ", "debug\ninfo\nwarn\nerror\n:4\n"},
		{"publish ", "audit\nconfirmations\nnotes\norders\norders.new\nprices\n:4\n"},
		{"publish o", "orders\norders.new\n:4\n"},
		{"publish orders ", ":4\n"},
		{"publish orders --broker ", "memory\npost\n:4\n"},
		{"dead replay ", "orders.dead\norders.refused\n:4\n"},
		{"dead replay orders.dead --to c", "confirmations\n:4\n"},
	} {
		args := append([]string{"__complete"}, strings.Split(tt.args, " ")...)
		if got := call(t, app, args...); got.code != 0 || got.out != tt.want {
			t.Errorf("%q completes to %q, want %q", tt.args, got.out, tt.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		call(t, app, "completion", shell).want(t, 0, "shop", "")
	}
}
