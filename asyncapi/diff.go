package asyncapi

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Diff compares two documents, the old one and the new one, and says of each change
// whether it breaks the programs of others. Documents of [Document] and of [Parse] may be
// mixed. Operations, channels and messages are the same where their keys are; of messages
// that have no counterpart two are compared where there is one on each side.
//
// What the app receives may be widened and not narrowed: others go on sending what they
// send. What it sends may be narrowed and not widened, and no field may go: others go on
// reading what they read. The guide has the table of all rules. References within a
// document are followed, also in circles; those out of it are compared as texts.
func Diff(old, new *Spec) *Changes {
	d := &differ{old: old.tree(), new: new.tree(), changes: &Changes{}, told: make(map[Change]bool)}
	d.info()
	d.servers()
	d.channels()
	d.operations()
	d.changes.sort()
	return d.changes
}

// differ walks through two documents.
type differ struct {
	old, new *object
	changes  *Changes
	told     map[Change]bool
}

func (d *differ) add(breaking bool, rule, where, format string, args ...any) {
	c := Change{breaking, rule, where, fmt.Sprintf(format, args...)}
	if !d.told[c] {
		d.told[c] = true
		d.changes.List = append(d.changes.List, c)
	}
}

// followed are what references lead to, as objects; nil for something else.
func (d *differ) followed(before, after any) (o, n *object) {
	return follow(d.old, before), follow(d.new, after)
}

func follow(root *object, v any) *object {
	found, _ := resolve(root, v)
	o, _ := found.(*object)
	return o
}

// both calls f with each key that either has, in order.
func both(o, n *object, f func(key string, inOld, inNew bool)) {
	keys := make(map[string]bool)
	for _, side := range []*object{o, n} {
		for i := range side.len() {
			keys[side.keys[i]] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		f(k, o.has(k), n.has(k))
	}
}

func (d *differ) info() {
	if before, after := d.old.text("asyncapi"), d.new.text("asyncapi"); before != after {
		d.add(false, "info", "document", "the version of AsyncAPI is %q; it was %q", after, before)
	}
	o, n := d.old.object("info"), d.new.object("info")
	both(o, n, func(k string, _, _ bool) {
		if !strings.HasPrefix(k, "x-") && !equal(o.get(k), n.get(k)) {
			d.add(false, "info", "info", "%s has changed", k)
		}
	})
}

func (d *differ) servers() {
	o, n := d.old.object("servers"), d.new.object("servers")
	both(o, n, func(k string, inOld, inNew bool) {
		where := "server " + k
		switch {
		case !inNew:
			d.add(false, "server", where, "removed")
		case !inOld:
			d.add(false, "server", where, "added")
		default:
			before, after := d.followed(o.get(k), n.get(k))
			for _, field := range [...]string{"host", "pathname", "protocol", "protocolVersion"} {
				if x, y := before.text(field), after.text(field); x != y {
					d.add(false, "server", where, "its %s is %q; it was %q", field, y, x)
				}
			}
		}
	})
}

func (d *differ) channels() {
	o, n := d.old.object("channels"), d.new.object("channels")
	both(o, n, func(k string, inOld, inNew bool) {
		where := "channel " + k
		switch {
		case !inNew:
			if to := d.movedTo(k); to != "" {
				d.add(false, "channel-renamed", where, "it is called %s now", to)
				return
			}
			d.add(true, "channel-removed", where, "removed")
		case !inOld:
			d.add(false, "channel-added", where, "added")
		default:
			before, after := d.followed(o.get(k), n.get(k))
			d.address(where, before, after)
			d.protocols(where, before, after)
			d.bindings(where, before, after)
		}
	})
}

// movedTo is the key of the new channel that all operations and replies of an old one, now
// gone, are on; "" where there is none. Their addresses are compared with the operations.
func (d *differ) movedTo(channel string) string {
	to := ""
	o, n := d.old.object("operations"), d.new.object("operations")
	for i := range o.len() {
		k := o.keys[i]
		before, after := d.followed(o.get(k), n.get(k))
		oldReply, newReply := d.followed(before.get("reply"), after.get("reply"))
		for _, of := range [...][2]*object{{before, after}, {oldReply, newReply}} {
			if channelOf(of[0]) != channel {
				continue
			}
			now := channelOf(of[1])
			if now == "" || to != "" && now != to || d.old.object("channels").has(now) {
				return ""
			}
			to = now
		}
	}
	return to
}

// channelOf is the key of the channel that an operation refers to.
func channelOf(op *object) string {
	target := op.object("channel").text("$ref")
	if !strings.HasPrefix(target, "#/channels/") {
		return ""
	}
	return pointerUnescapes.Replace(last(target))
}

var parameter = regexp.MustCompile(`\{[^{}]*\}`)

// address compares where two channels are. What the parameters are called does not matter.
func (d *differ) address(where string, o, n *object) {
	before, after := addressText(o), addressText(n)
	if parameter.ReplaceAllString(before, "{}") != parameter.ReplaceAllString(after, "{}") || (o.get("address") == nil) != (n.get("address") == nil) {
		d.add(true, "address", where, "its address is %s; it was %s", shown(n.get("address")), shown(o.get("address")))
		return
	}
	if x, y := o.text("x-gostream-pattern"), n.text("x-gostream-pattern"); x != y {
		d.add(true, "address", where, "the pattern of its names is %q; it was %q", y, x)
	}
	if before != after {
		d.add(false, "parameters", where, "its address is %q; it was %q", after, before)
	}
	oldNames, newNames := parameter.FindAllString(before, -1), parameter.FindAllString(after, -1)
	for i := range oldNames {
		x := follow(d.old, o.object("parameters").get(strings.Trim(oldNames[i], "{}")))
		y := follow(d.new, n.object("parameters").get(strings.Trim(newNames[i], "{}")))
		gone, come := compareLists(x.list("enum"), y.list("enum"))
		name := strings.Trim(newNames[i], "{}")
		switch {
		case !x.has("enum") && y.has("enum"):
			d.add(true, "address", where, "the parameter %s has a list of values now", name)
		case x.has("enum") && !y.has("enum"):
			d.add(false, "parameters", where, "the parameter %s may have any value now", name)
		case len(gone) > 0:
			d.add(true, "address", where, "the parameter %s no longer has %s", name, list(gone))
		case len(come) > 0:
			d.add(false, "parameters", where, "the parameter %s may be %s, too", name, list(come))
		}
	}
}

func addressText(ch *object) string { return ch.text("address") }

// shown is a value in a text.
func shown(v any) string {
	if v == nil {
		return "not known"
	}
	return compact(v)
}

func list(values []any) string {
	var out []string
	for _, v := range values {
		out = append(out, compact(v))
	}
	return strings.Join(out, ", ")
}

// compareLists are the values that are in one list alone.
func compareLists(before, after []any) (gone, come []any) {
	without := func(list, other []any) (out []any) {
		for _, v := range list {
			if !slices.ContainsFunc(other, func(w any) bool { return equal(v, w) }) {
				out = append(out, v)
			}
		}
		return out
	}
	return without(before, after), without(after, before)
}

// protocols compares those of the servers that a channel is on.
func (d *differ) protocols(where string, o, n *object) {
	before, after := protocolsOf(d.old, o), protocolsOf(d.new, n)
	if len(before) > 0 && len(after) > 0 && !slices.Equal(before, after) {
		gone := slices.ContainsFunc(before, func(p string) bool { return !slices.Contains(after, p) })
		d.add(gone, "protocol", where, "it is on %s; it was on %s", strings.Join(after, ", "), strings.Join(before, ", "))
	}
}

func protocolsOf(root, ch *object) []string {
	var all []string
	servers := ch.list("servers")
	if len(servers) == 0 { // it is on all then
		of := root.object("servers")
		for i := range of.len() {
			servers = append(servers, of.get(of.keys[i]))
		}
	}
	for _, s := range servers {
		if p := follow(root, s).text("protocol"); p != "" && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}

// breakingBindings are the fields of bindings that say where messages are.
var breakingBindings = map[string]bool{
	"kafka topic": true, "amqp is": true, "amqp exchange": true, "googlepubsub topic": true,
	"sns name": true, "sqs queue": true, "jms destination": true, "ibmmq queue": true, "ibmmq topic": true,
}

// groupBindings are those that say who shares the messages.
var groupBindings = map[string]bool{"kafka groupId": true, "nats queue": true, "redis group": true}

// bindings compares those of channels or of operations.
func (d *differ) bindings(where string, before, after *object) {
	o, n := follow(d.old, before.get("bindings")), follow(d.new, after.get("bindings"))
	both(o, n, func(protocol string, _, _ bool) {
		x, y := d.followed(o.get(protocol), n.get(protocol))
		both(x, y, func(field string, inOld, inNew bool) {
			if field == "bindingVersion" || strings.HasPrefix(field, "x-") || equal(x.get(field), y.get(field)) {
				return
			}
			what := fmt.Sprintf("the %s binding %s is %s; it was %s", protocol, field, binding(y, field), binding(x, field))
			switch name := protocol + " " + field; {
			case breakingBindings[name] && inOld && inNew:
				d.add(true, "address", where, "%s", what)
			case groupBindings[name]:
				d.add(false, "group", where, "%s: messages may be handled twice, or not, in the change", what)
			default:
				d.add(false, "binding", where, "%s", what)
			}
		})
	})
}

func binding(o *object, field string) string {
	if !o.has(field) {
		return "not set"
	}
	return compact(o.get(field))
}

func (d *differ) operations() {
	o, n := d.old.object("operations"), d.new.object("operations")
	both(o, n, func(k string, inOld, inNew bool) {
		where := "operation " + k
		switch {
		case !inNew:
			d.add(true, "operation-removed", where, "removed")
		case !inOld:
			d.add(false, "operation-added", where, "added")
		default:
			before, after := d.followed(o.get(k), n.get(k))
			d.operation(where, before, after)
		}
	})
}

func (d *differ) operation(where string, o, n *object) {
	if x, y := o.text("action"), n.text("action"); x != y {
		d.add(true, "action", where, "its action is %q; it was %q", y, x)
		return // what it sends and receives cannot be compared
	}
	d.sameChannel(where, o.object("channel"), n.object("channel"))
	d.messages(where, o, n, o.text("action") == "send")
	d.reply(where, o, n)
	d.bindings(where, o, n)
	d.failure(where, o, n)
}

// sameChannel compares the channels of an operation. A channel of the same key is compared
// by itself.
func (d *differ) sameChannel(where string, before, after *object) {
	if before.text("$ref") == after.text("$ref") {
		return
	}
	o, n := d.followed(before, after)
	d.address(where, o, n)
	d.protocols(where, o, n)
}

// reply compares the answers to requests. They go the other way.
func (d *differ) reply(where string, before, after *object) {
	o, n := d.followed(before.get("reply"), after.get("reply"))
	switch {
	case o == nil && n == nil:
		return
	case n == nil:
		d.add(true, "reply-removed", where, "it has no reply any more")
		return
	case o == nil:
		d.add(false, "reply-added", where, "it has a reply now")
		return
	}
	x, y := d.followed(o.get("address"), n.get("address"))
	if before, after := x.text("location"), y.text("location"); before != after {
		d.add(true, "address", where+", reply", "the address of the reply stands in %q; it stood in %q", after, before)
	}
	d.sameChannel(where+", reply", o.object("channel"), n.object("channel"))
	d.messages(where+", reply", o, n, before.text("action") == "receive")
}

// failure compares what becomes of messages that cannot be handled.
func (d *differ) failure(where string, before, after *object) {
	o, n := before.object("x-gostream-failure"), after.object("x-gostream-failure")
	gone, come := compareLists(o.list("deadLetters"), n.list("deadLetters"))
	switch {
	case len(gone) > 0 && len(come) > 0:
		d.add(true, "dead-letter", where, "dead letters go to %s; they went to %s", list(come), list(gone))
	case len(gone) > 0:
		d.add(true, "dead-letter", where, "no dead letters go to %s any more", list(gone))
	case len(come) > 0:
		d.add(false, "dead-letter-added", where, "dead letters may go to %s", list(come))
	}
	if !equal(o.get("policy"), n.get("policy")) {
		d.add(false, "failure-policy", where, "the failure policy has changed")
	}
}

// namedMessage is a message of an operation.
type namedMessage struct {
	name string
	body *object
}

// messages are those of an operation or a reply: what it lists, else all of its channel.
func messages(root, op *object) []namedMessage {
	var out []namedMessage
	add := func(name string, v any) {
		found, target := resolve(root, v)
		body, _ := found.(*object)
		if name == "" {
			name = pointerUnescapes.Replace(last(target))
		}
		if body != nil {
			out = append(out, namedMessage{name, body})
		}
	}
	if refs, ok := op.get("messages").([]any); ok {
		for _, r := range refs {
			o, _ := r.(*object)
			add(pointerUnescapes.Replace(last(o.text("$ref"))), r)
		}
		return out
	}
	of := follow(root, op.get("channel")).object("messages")
	for i := range of.len() {
		add(of.keys[i], of.get(of.keys[i]))
	}
	return out
}

// messages compares those of an operation, or of its reply.
func (d *differ) messages(where string, o, n *object, sent bool) {
	before, after := messages(d.old, o), messages(d.new, n)
	var gone []namedMessage
	for _, m := range before {
		i := slices.IndexFunc(after, func(other namedMessage) bool { return other.name == m.name })
		if i < 0 {
			gone = append(gone, m)
			continue
		}
		d.message(where+", message "+m.name, m.body, after[i].body, sent)
		after = slices.Delete(after, i, i+1)
	}
	renamed := func(m, to namedMessage) {
		d.add(false, "message-renamed", where+", message "+to.name, "it was called %s", m.name)
		d.message(where+", message "+to.name, m.body, to.body, sent)
	}
	// One type in several encodings: each has its counterpart in the same encoding.
	left := gone[:0:0]
	for _, m := range gone {
		of := func(root *object) func(namedMessage) bool {
			return func(x namedMessage) bool { return d.contentType(root, x.body) == d.contentType(d.old, m.body) }
		}
		i := slices.IndexFunc(after, of(d.new))
		if i < 0 || count(after, of(d.new)) > 1 || count(gone, of(d.old)) > 1 {
			left = append(left, m)
			continue
		}
		renamed(m, after[i])
		after = slices.Delete(after, i, i+1)
	}
	if gone = left; len(gone) == 1 && len(after) == 1 {
		renamed(gone[0], after[0])
		return
	}
	for _, m := range gone {
		d.add(true, "message-removed", where+", message "+m.name, "removed")
	}
	for _, m := range after {
		d.add(sent, "message-added", where+", message "+m.name, "added")
	}
}

func count(list []namedMessage, is func(namedMessage) bool) (n int) {
	for _, m := range list {
		if is(m) {
			n++
		}
	}
	return n
}

func (d *differ) message(where string, o, n *object, sent bool) {
	if x, y := d.contentType(d.old, o), d.contentType(d.new, n); x != y {
		d.add(true, "content-type", where, "its content type is %q; it was %q", y, x)
	}
	for _, part := range [...]struct{ key, called string }{{"payload", ""}, {"headers", "headers"}} {
		if !o.has(part.key) && !n.has(part.key) {
			continue
		}
		c := &comparison{differ: d, where: where, sent: sent, seen: make(map[pair]bool)}
		c.schemas(part.called, schemaOf(o, part.key), schemaOf(n, part.key))
	}
}

// contentType is a message's own, or the document's.
func (d *differ) contentType(root, m *object) string {
	if c := m.text("contentType"); c != "" {
		return media(c)
	}
	return media(root.text("defaultContentType"))
}

// schemaOf is the schema at key; without one anything goes. One in a format of its own,
// with the schema inside, is taken by what is inside.
func schemaOf(m *object, key string) any {
	if !m.has(key) {
		return true
	}
	o := m.object(key)
	if o.has("schemaFormat") && o.has("schema") {
		return o.get("schema")
	}
	return m.get(key)
}
