package asyncapi

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// Document makes the document of an app from what [gostream.App.Describe] says. The same
// app gives the same bytes each time; keys are sorted, so that a small change of the app is
// a small change of the document.
//
// What cannot be said is an error, all mistakes joined: an option that makes no sense, a
// payload type that no JSON can hold. Nothing of the document is a credential.
func Document(d gostream.Description, opts ...Option) (*Spec, error) {
	b := &builder{description: d, schemas: newSchemas(), messages: make(map[message]string)}
	b.settings.version = versions[0]
	for _, o := range opts {
		if o == nil {
			b.settings.errs = append(b.settings.errs, errors.New("an option is nil"))
			continue
		}
		o.apply(&b.settings)
	}
	b.errs = append(b.errs, b.settings.errs...)
	b.makeServers()
	for i := range d.Subscriptions {
		b.subscription(&d.Subscriptions[i])
	}
	for i := range d.Publishers {
		b.publisher(&d.Publishers[i])
	}
	b.unusedParameters()
	root := b.document()
	if len(b.errs) > 0 {
		return nil, fmt.Errorf("asyncapi: app %s has no document:\n%w", broker.Quote(d.Name), errors.Join(b.errs...))
	}
	return &Spec{root}, nil
}

// builder collects what the document holds, then gives out keys, then writes it.
type builder struct {
	description gostream.Description
	settings    settings
	errs        []error

	servers    []server
	serversOf  [][]int // by broker: indices in servers
	schemas    *schemas
	messages   map[message]string // with their keys at the end
	order      []message
	channels   []*channel
	operations []*operation
}

// channel is a name on a broker, or what answers come on.
type channel struct {
	broker   int
	called   string // what it is keyed by
	answers  bool   // its address is that of a request's reply-to
	address  address
	bindings map[string]*object
	holds    map[message]bool
	key      string
}

// operation is what the app does on a channel.
type operation struct {
	name     string
	action   string // "receive" or "send"
	channel  *channel
	messages map[message]bool
	bindings map[string]*object
	failure  *object
	reply    *channel // nil for none
	answers  map[message]bool
}

func (b *builder) bad(where string, err error) {
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("%s: %w", where, err))
	}
}

// message takes note of a message of a channel.
func (b *builder) message(where string, m message, ch *channel) {
	if _, known := b.messages[m]; !known {
		b.messages[m] = ""
		b.order = append(b.order, m)
		if m.typ != nil && !m.raw() && m.typ.PkgPath() != "" && m.typ != timeType {
			b.schemas.number(m.typ) // so that it has a key, with or without a schema
		}
	}
	if m.hasSchema() {
		if _, errs := b.schemas.of(m.typ); len(errs) > 0 {
			for _, err := range errs {
				b.bad(fmt.Sprintf("%s: type %v", where, m.typ), err)
			}
		}
	}
	ch.holds[m] = true
}

// channel is the one that is called so on that broker.
func (b *builder) channel(brokerIndex int, called string, answers bool, at address) *channel {
	for _, ch := range b.channels {
		if ch.broker == brokerIndex && ch.called == called && ch.answers == answers {
			return ch
		}
	}
	ch := &channel{broker: brokerIndex, called: called, answers: answers, address: at, holds: make(map[message]bool), bindings: make(map[string]*object)}
	b.channels = append(b.channels, ch)
	return ch
}

// operation is the one of that name; two publishers of one name are one.
func (b *builder) operation(name, action string, ch *channel) *operation {
	for _, op := range b.operations {
		if op.name == name && op.channel == ch {
			return op
		}
	}
	op := &operation{name: name, action: action, channel: ch, messages: make(map[message]bool), answers: make(map[message]bool)}
	b.operations = append(b.operations, op)
	return op
}

func (b *builder) protocol(brokerIndex int) string {
	if brokerIndex < 0 || brokerIndex >= len(b.description.Brokers) {
		return ""
	}
	return b.description.Brokers[brokerIndex].Server.Protocol
}

func (b *builder) subscription(s *gostream.SubscriptionDescription) {
	name, source := s.Subscription.Name(), s.Subscription.Source()
	where := "subscription " + broker.Quote(name)
	at, err := subscribed(b.protocol(s.Broker), source, s.Bindings, b.settings.parameters[source])
	b.bad(where, err)
	ch := b.channel(s.Broker, source, false, at)
	op := b.operation(name+".receive", "receive", ch)
	for _, contentType := range orRaw(s.ContentTypes) {
		m := newMessage(s.Payload, contentType)
		b.message(where, m, ch)
		op.messages[m] = true
	}
	onChannel, err := bindings(s.Bindings, "channel")
	b.bad(where, err)
	for protocol, binding := range onChannel {
		if ch.bindings[protocol] == nil {
			ch.bindings[protocol] = new(object)
		}
		for _, k := range binding.keys { // of several subscriptions the first one's counts
			if !ch.bindings[protocol].has(k) {
				ch.bindings[protocol].set(k, binding.values[k])
			}
		}
	}
	op.bindings, err = bindings(s.Bindings, "operation")
	b.bad(where, err)
	op.failure = obj("policy", texts(s.Policy), "deadLetters", texts(s.DeadLetters))
	if s.Reply == nil {
		return
	}
	m := newMessage(s.Reply, s.ReplyContentType)
	if s.ReplyTo == "" {
		op.reply = b.channel(s.ReplyBroker, source, true, address{})
		b.message(where+", its reply", m, op.reply)
		op.answers[m] = true
		return
	}
	to := b.channel(s.ReplyBroker, s.ReplyTo, false, concrete(s.ReplyTo))
	send := b.operation(name+".reply", "send", to)
	b.message(where+", its reply", m, to)
	send.messages[m] = true
}

func (b *builder) publisher(p *gostream.PublisherDescription) {
	kind, suffix := "publisher ", ".send"
	if p.Answer != nil {
		kind, suffix = "requester ", ".request"
	}
	where := kind + broker.Quote(p.Name)
	ch := b.channel(p.Broker, p.Name, false, concrete(p.Name))
	op := b.operation(p.Name+suffix, "send", ch)
	m := newMessage(p.Payload, p.ContentType)
	b.message(where, m, ch)
	op.messages[m] = true
	if p.Answer == nil {
		return
	}
	op.reply = b.channel(p.Broker, p.Name, true, address{})
	for _, contentType := range orRaw(p.AnswerContentTypes) {
		answer := newMessage(p.Answer, contentType)
		b.message(where+", its answer", answer, op.reply)
		op.answers[answer] = true
	}
}

// orRaw are content types, or that of a raw payload where there are none.
func orRaw(contentTypes []string) []string {
	if len(contentTypes) == 0 {
		return []string{""}
	}
	return contentTypes
}

func (b *builder) unusedParameters() {
	for _, pattern := range slices.Sorted(maps.Keys(b.settings.parameters)) {
		if !slices.ContainsFunc(b.description.Subscriptions, func(s gostream.SubscriptionDescription) bool {
			return s.Subscription.Source() == pattern
		}) {
			b.errs = append(b.errs, fmt.Errorf("Parameters(%q): no subscription has that pattern", pattern))
		}
	}
}

// document gives out the keys and writes everything.
func (b *builder) document() *object {
	b.errs = append(b.errs, flat(b.schemas.assign())...)
	b.messageKeys()
	b.channelKeys()
	d := b.description
	title := b.settings.title
	if title == "" {
		title = d.Name
	}
	info := new(object)
	info.set("title", title)
	info.set("version", d.Version)
	info.add("description", b.settings.description)
	info.add("contact", b.settings.contact)
	info.add("license", b.settings.license)

	components := new(object)
	components.add("schemas", b.schemas.components())
	messages := new(object)
	for _, m := range b.order {
		o, _ := m.object(b.messages[m], b.schemas) // its errors are known
		messages.set(b.messages[m], o)
	}
	components.add("messages", sorted(messages))

	root := new(object)
	root.set("asyncapi", b.settings.version)
	root.set("info", info)
	root.add("servers", b.serverObjects())
	channels := new(object)
	for _, ch := range b.channels {
		channels.set(ch.key, b.channelObject(ch))
	}
	root.set("channels", sorted(channels))
	root.set("operations", b.operationObjects())
	root.add("components", components)
	return root
}

// flat are the parts of a joined error.
func flat(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

func (b *builder) messageKeys() {
	claims := make([]claim, len(b.order))
	for i, m := range b.order {
		typeKey := ""
		if n, ok := b.schemas.numbers[typeOrNone(m.typ)]; ok {
			typeKey = b.schemas.keys[n]
		}
		base := m.base(typeKey)
		claims[i] = claim{names: []string{base, base + "-" + hash(m.identity())}, exact: typeKey != "" && base == typeKey}
	}
	for i, k := range assign(claims) {
		b.messages[b.order[i]] = k
	}
}

func typeOrNone(t reflect.Type) reflect.Type {
	if t == nil {
		return reflect.TypeFor[struct{}]()
	}
	return t
}

func (b *builder) channelKeys() {
	claims := make([]claim, len(b.channels))
	for i, ch := range b.channels {
		name := ch.called
		if ch.answers {
			name += ".answers"
		}
		k, whole := b.key(ch.broker, name)
		on, _ := key(k + "-" + b.brokerName(ch.broker))
		claims[i] = claim{names: []string{k, on, k + "-" + hash(strconv.Itoa(ch.broker)+" "+name)}, exact: whole && !ch.answers}
	}
	for i, k := range assign(claims) {
		b.channels[i].key = k
	}
}

// key makes a key of a name on a broker; whole tells that it is the name.
func (b *builder) key(brokerIndex int, name string) (k string, whole bool) {
	text := readable(b.protocol(brokerIndex), name)
	k, whole = key(text)
	return k, whole && text == name
}

// keysOf are the keys of messages, sorted.
func (b *builder) keysOf(set map[message]bool) []string {
	var keys []string
	for m := range set {
		keys = append(keys, b.messages[m])
	}
	slices.Sort(keys)
	return keys
}

func (b *builder) channelObject(ch *channel) *object {
	o := new(object)
	switch {
	case ch.answers:
		o.set("address", nil)
		o.set("description", "Where a request says that its answer goes.")
	default:
		o.set("address", ch.address.text)
	}
	var refs []any
	if ch.broker >= 0 && ch.broker < len(b.serversOf) {
		for _, i := range b.serversOf[ch.broker] {
			refs = append(refs, ref("servers", b.servers[i].key))
		}
	}
	o.add("servers", refs)
	messages := new(object)
	for _, k := range b.keysOf(ch.holds) {
		messages.set(k, ref("components", "messages", k))
	}
	o.add("messages", messages)
	o.add("parameters", ch.address.parameters)
	addBindings(o, ch.bindings)
	o.add("x-gostream-pattern", ch.address.pattern)
	return o
}

func (b *builder) operationObjects() *object {
	claims := make([]claim, len(b.operations))
	for i, op := range b.operations {
		k, whole := b.key(op.channel.broker, op.name)
		on, _ := key(k + "-" + b.brokerName(op.channel.broker))
		claims[i] = claim{names: []string{k, on, k + "-" + hash(strconv.Itoa(op.channel.broker)+" "+op.name)}, exact: whole}
	}
	out := new(object)
	for i, k := range assign(claims) {
		op := b.operations[i]
		o := obj("action", op.action, "channel", ref("channels", op.channel.key))
		o.add("messages", b.messageRefs(op.channel, op.messages))
		if op.reply != nil {
			o.set("reply", obj(
				"address", obj("description", "The reply-to of the request.", "location", "$message.header#/"+broker.HeaderReplyTo),
				"channel", ref("channels", op.reply.key),
				"messages", b.messageRefs(op.reply, op.answers),
			))
		}
		addBindings(o, op.bindings)
		o.add("x-gostream-failure", op.failure)
		out.set(k, o)
	}
	return sorted(out)
}

func (b *builder) messageRefs(ch *channel, set map[message]bool) []any {
	var refs []any
	for _, k := range b.keysOf(set) {
		refs = append(refs, ref("channels", ch.key, "messages", k))
	}
	return refs
}

// sorted is an object with its keys in order.
func sorted(o *object) *object {
	slices.Sort(o.keys)
	return o
}

// protocols are those that AsyncAPI has bindings for.
var protocols = strings.Fields("http ws amqp amqp1 mqtt kafka anypointmq nats jms sns sqs stomp redis ibmmq solace googlepubsub pulsar")

// bindings are the parts of bindings for channels, or for operations, by protocol.
func bindings(all map[string]any, part string) (map[string]*object, error) {
	out := make(map[string]*object)
	var errs []error
	for _, protocol := range slices.Sorted(maps.Keys(all)) {
		tree, err := fromJSON(all[protocol])
		if err != nil {
			errs = append(errs, fmt.Errorf("the bindings for %s are no JSON: %w", protocol, err))
			continue
		}
		of, _ := tree.(*object)
		if of.object(part).len() > 0 {
			out[protocol] = of.object(part)
		}
	}
	return out, errors.Join(errs...)
}

// addBindings adds bindings; those of a protocol that AsyncAPI has none for stand in an
// extension.
func addBindings(o *object, all map[string]*object) {
	known, others := new(object), new(object)
	for _, protocol := range slices.Sorted(maps.Keys(all)) {
		if slices.Contains(protocols, protocol) {
			known.set(protocol, all[protocol])
		} else {
			others.set(protocol, all[protocol])
		}
	}
	o.add("bindings", known)
	o.add("x-gostream-bindings", others)
}
