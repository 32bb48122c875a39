package asyncapi

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// server is one server of the document.
type server struct {
	name              string // what it is keyed by
	protocol, version string
	host, path        string
	description       string
	key               string
}

var errNotOfApp = errors.New("a broker of it is not one of this app: mount it")

// makeServers collects the servers, and says which belong to which broker.
func (b *builder) makeServers() {
	b.serversOf = make([][]int, len(b.description.Brokers))
	byHand := make([][]int, len(b.settings.servers))
	for i, d := range b.settings.servers {
		byHand[i] = b.addServer(d.name, d.spec)
		for _, of := range d.of {
			if !slices.ContainsFunc(b.description.Brokers, func(x gostream.BrokerDescription) bool { return same(x.Broker, of) }) {
				b.bad("Server("+strconv.Quote(d.name)+")", errNotOfApp)
			}
		}
	}
	for i, described := range b.description.Brokers {
		for _, pick := range []func(declared) bool{
			func(d declared) bool {
				return slices.ContainsFunc(d.of, func(of broker.Broker) bool { return same(of, described.Broker) })
			},
			func(d declared) bool { return len(d.of) == 0 && d.spec.Protocol == described.Server.Protocol },
		} {
			if len(b.serversOf[i]) > 0 {
				break
			}
			for j, d := range b.settings.servers {
				if pick(d) {
					b.serversOf[i] = append(b.serversOf[i], byHand[j]...)
				}
			}
		}
		if len(b.serversOf[i]) == 0 {
			b.serversOf[i] = b.addServer(b.brokerName(i), described.Server)
		}
	}
	b.serverKeys()
}

// addServer adds a server for each host, and returns where they are.
func (b *builder) addServer(name string, spec broker.ServerSpec) (indices []int) {
	s := server{name: name, protocol: spec.Protocol, version: spec.ProtocolVersion, description: withoutUserinfo(spec.Description)}
	if s.protocol == "" {
		s.protocol = "unknown"
		s.description = "The broker does not describe its server."
	}
	hosts := spec.Hosts
	if len(hosts) == 0 {
		hosts = []string{"unspecified"}
		if spec.Protocol == "memory" {
			hosts = []string{"in-process"}
		}
	}
	for _, h := range hosts {
		s.host, s.path = splitHost(h)
		indices = append(indices, len(b.servers))
		b.servers = append(b.servers, s)
	}
	return indices
}

// serverKeys gives the first of a name that name, and numbers the others.
func (b *builder) serverKeys() {
	taken := make(map[string]bool)
	for i := range b.servers {
		base, _ := key(b.servers[i].name)
		k := base
		for n := 2; taken[k]; n++ {
			k = base + "-" + strconv.Itoa(n)
		}
		taken[k] = true
		b.servers[i].key = k
	}
}

func (b *builder) serverObjects() *object {
	out := new(object)
	for _, s := range b.servers {
		out.set(s.key, obj("host", s.host, "pathname", s.path, "protocol", s.protocol, "protocolVersion", s.version, "description", s.description))
	}
	return sorted(out)
}

// brokerName is what a broker is called: its protocol, or the name of its Go type, with a
// number where it is not the first of its kind.
func (b *builder) brokerName(i int) string {
	brokers := b.description.Brokers
	if i < 0 || i >= len(brokers) {
		return "broker"
	}
	k, _ := key(strings.TrimLeft(brokers[i].Kind, "*"))
	n := 1
	for _, other := range brokers[:i] {
		if other.Kind == brokers[i].Kind {
			n++
		}
	}
	if n > 1 {
		k += "-" + strconv.Itoa(n)
	}
	return k
}

// same compares brokers without the panic that an uncomparable type would cause.
func same(x, y broker.Broker) bool {
	tx, ty := reflect.TypeOf(x), reflect.TypeOf(y)
	return tx == ty && (tx == nil || tx.Comparable() && x == y)
}

// splitHost takes an address apart. A broker gives "host:port"; where it gives a whole
// URL, its user, password and query are left out.
func splitHost(address string) (host, path string) {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
	}
	if i := strings.IndexAny(address, "?#"); i >= 0 {
		address = address[:i]
	}
	address = address[strings.LastIndexByte(address, '@')+1:]
	if i := strings.IndexByte(address, '/'); i >= 0 {
		address, path = address[:i], address[i:]
	}
	if address == "" {
		address = "unspecified"
	}
	return address, path
}

var userinfo = regexp.MustCompile(`://[^\s/]*@`)

// withoutUserinfo is a text without the users and passwords of the URLs in it.
func withoutUserinfo(text string) string { return userinfo.ReplaceAllString(text, "://") }
