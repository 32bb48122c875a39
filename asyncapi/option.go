package asyncapi

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gostream/gostream/broker"
)

// Option configures [Document].
type Option interface{ apply(*settings) }

type settings struct {
	version            string
	title, description string
	contact, license   *object
	servers            []declared
	parameters         map[string][]string
	errs               []error
}

// declared is a server declared by hand.
type declared struct {
	name string
	spec broker.ServerSpec
	of   []broker.Broker
}

type optionFunc func(*settings)

func (f optionFunc) apply(s *settings) { f(s) }

// versions are those that Document can write, the default first.
var versions = []string{"3.0.0", "3.1.0"}

// Version is the version of AsyncAPI that the document is written in: "3.0.0", the
// default, or "3.1.0". The version of the app comes from gostream.New.
func Version(version string) Option {
	return optionFunc(func(s *settings) {
		if !slices.Contains(versions, version) {
			s.errs = append(s.errs, fmt.Errorf("Version(%q): choose %s", version, strings.Join(versions, " or ")))
			return
		}
		s.version = version
	})
}

// Title is the document's title; by default, and for "", the app's name.
func Title(title string) Option {
	return optionFunc(func(s *settings) { s.title = title })
}

// Description is what the app is for, in Markdown; by default there is none.
func Description(text string) Option {
	return optionFunc(func(s *settings) { s.description = text })
}

// Contact is whom to ask about the app; "" leaves a part out.
func Contact(name, url, email string) Option {
	return optionFunc(func(s *settings) { s.contact = obj("name", name, "url", url, "email", email) })
}

// License is the licence of the app's API. The name is needed; an empty url is left out.
func License(name, url string) Option {
	return optionFunc(func(s *settings) {
		if name == "" {
			s.errs = append(s.errs, errors.New("License: the name is empty"))
		}
		s.license = obj("name", name, "url", url)
	})
}

// Server declares servers by hand: the one in production, where the app that makes the
// document knows only that of a developer. It stands in place of what the brokers in of say
// of their servers; without of, in place of what all brokers of the same protocol say. Of
// several hosts each is a server. Several Server options add up.
//
// spec needs a protocol and a host; a host is "host", "host:port", or one of these with a
// path. One with a user or a password is an error.
func Server(name string, spec broker.ServerSpec, of ...broker.Broker) Option {
	return optionFunc(func(s *settings) {
		bad := func(format string, args ...any) {
			s.errs = append(s.errs, fmt.Errorf("Server(%q): "+format, append([]any{name}, args...)...))
		}
		if name == "" {
			bad("the name is empty")
		}
		if spec.Protocol == "" {
			bad("the protocol is empty: \"nats\", \"kafka\" …")
		}
		if len(spec.Hosts) == 0 {
			bad("there is no host")
		}
		for _, h := range spec.Hosts {
			if h == "" || strings.ContainsAny(h, "@?#") || strings.Contains(h, "://") {
				bad("a host is \"host:port\", without a scheme, a user or a query") // it is not shown: it may hold a password
			}
		}
		spec.Hosts = slices.Clone(spec.Hosts)
		s.servers = append(s.servers, declared{name, spec, of})
	})
}

// Parameters names the wildcards of a subscription's pattern, in their order: with
// Parameters("orders.*.created", "region") the address is "orders.{region}.created". By
// default a wildcard is called after its place, "token2", and one for the rest "rest". A
// name is of letters, digits, dashes and underscores.
func Parameters(pattern string, names ...string) Option {
	return optionFunc(func(s *settings) {
		for i, n := range names {
			if k, whole := key(n); !whole || strings.Contains(k, ".") || slices.Contains(names[:i], n) {
				s.errs = append(s.errs, fmt.Errorf("Parameters(%q): %q is no name, or stands there twice", pattern, n))
			}
		}
		if s.parameters == nil {
			s.parameters = make(map[string][]string)
		}
		s.parameters[pattern] = slices.Clone(names)
	})
}
