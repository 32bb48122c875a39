package asyncapi

import (
	"fmt"
	"strconv"
	"strings"
)

// address is where a channel is, as AsyncAPI says it.
type address struct {
	text       string
	parameters *object
	pattern    string // a regular expression that the names match; "" for none
}

// wildcards is how a protocol writes patterns.
type wildcards struct{ separator, one, rest string }

var wildcardsOf = map[string]wildcards{
	"memory": {".", "*", ">"},
	"nats":   {".", "*", ">"},
	"mqtt":   {"/", "+", "#"},
	"mqtt5":  {"/", "+", "#"},
}

// subscribed is the address of what a subscription names: a pattern becomes an address
// with parameters. names are those of the wildcards that Parameters has given.
func subscribed(protocol, name string, bindings map[string]any, names []string) (address, error) {
	if protocol == "kafka" {
		return topics(name, bindings), unused(names, 0)
	}
	w, ok := wildcardsOf[protocol]
	if !ok || !strings.Contains(name, w.one) && !strings.Contains(name, w.rest) {
		return concrete(name), unused(names, 0)
	}
	tokens := strings.Split(name, w.separator)
	a := address{parameters: new(object)}
	found := 0
	for i, token := range tokens {
		var called, text string
		switch token {
		case w.one:
			called, text = "token"+strconv.Itoa(i+1), "any one token"
		case w.rest:
			called, text = "rest", "one or more tokens"
			if strings.HasPrefix(protocol, "mqtt") {
				text = "any number of levels, also none"
			}
		default:
			if strings.ContainsAny(token, "{}") { // it would be read as a parameter
				called = "literal" + strconv.Itoa(i+1)
				a.parameters.set(called, obj("enum", []any{token}))
				tokens[i] = "{" + called + "}"
			}
			continue
		}
		if found < len(names) {
			called = names[found]
		}
		found++
		if a.parameters.has(called) {
			return a, fmt.Errorf("two wildcards are called %q", called)
		}
		a.parameters.set(called, obj("description", text))
		tokens[i] = "{" + called + "}"
	}
	a.text = strings.Join(tokens, w.separator)
	return a, unused(names, found)
}

// readable is a name for a key: of a pattern with words for its wildcards, "orders.any.rest"
// for "orders.*.>".
func readable(protocol, name string) string {
	w, ok := wildcardsOf[protocol]
	if !ok {
		return name
	}
	tokens := strings.Split(name, w.separator)
	for i, token := range tokens {
		switch token {
		case w.one:
			tokens[i] = "any"
		case w.rest:
			tokens[i] = "rest"
		}
	}
	return strings.Join(tokens, w.separator)
}

// unused reports names that Parameters has given for wildcards that are not there.
func unused(names []string, wildcards int) error {
	if len(names) > wildcards {
		return fmt.Errorf("Parameters names %d wildcards, and the pattern has %d", len(names), wildcards)
	}
	return nil
}

// concrete is the address of a name without wildcards.
func concrete(name string) address {
	if !strings.ContainsAny(name, "{}") {
		return address{text: name}
	}
	// Braces make a parameter, and cannot be escaped.
	return address{text: "{name}", parameters: obj("name", obj("enum", []any{name}))}
}

// topics is the address of what a Kafka source names: a topic, several with commas
// between, or a regular expression. Its binding has the topic where there is one.
func topics(name string, bindings map[string]any) address {
	kafka, _ := bindings["kafka"].(map[string]any)
	channel, _ := kafka["channel"].(map[string]any)
	switch _, one := channel["topic"]; {
	case one, bindings == nil:
		return concrete(name)
	case isTopics(name) && strings.Contains(name, ","):
		return address{text: "{topic}", parameters: obj("topic", obj(
			"description", "one of the topics that are read",
			"enum", texts(strings.Split(name, ",")),
		))}
	default:
		return address{text: "{topic}", pattern: name, parameters: obj("topic", obj(
			"description", "a topic whose whole name matches the regular expression "+name,
		))}
	}
}

// isTopics reports topics with commas between.
func isTopics(name string) bool {
	for _, topic := range strings.Split(name, ",") {
		if _, whole := key(topic); !whole {
			return false
		}
	}
	return true
}
