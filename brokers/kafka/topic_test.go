package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

var topicNames = []struct {
	name  string
	valid bool
}{
	{"a", true},
	{"orders.new_v2-x", true},
	{"UPPER", true},
	{"0", true},
	{"...", true},
	{".a", true},
	{"-", true},
	{"_", true},
	{"__consumer_offsets", true},
	{strings.Repeat("x", 249), true},
	{strings.Repeat("x", 250), false},
	{"", false},
	{".", false},
	{"..", false},
	{"a b", false},
	{" a", false},
	{"a/b", false},
	{"a\\b", false},
	{"a,b", false},
	{"a*", false},
	{"a:b", false},
	{"a\x00", false},
	{"a\n", false},
	{"ä", false},
	{"a\xff", false},
	{"\u212a", false}, // the Kelvin sign, that some fold to a k
	{"１", false},      // a digit elsewhere
}

// The rule for the names of topics is the same wherever a name is given, and the error
// names it without what would spoil a log.
func TestTopicNames(t *testing.T) {
	t.Parallel()
	b := grouped()
	for _, tt := range topicNames {
		for where, err := range map[string]error{
			"CheckPublishName": b.CheckPublishName(tt.name), "CheckSubscribeName": b.CheckSubscribeName(tt.name),
		} {
			if tt.valid != (err == nil) || err != nil && !errors.Is(err, broker.ErrInvalid) {
				t.Errorf("%s(%q): %v", where, tt.name, err)
			}
			if text := fmt.Sprint(err); strings.ContainsAny(text, "\x00\n") || !utf8.ValidString(text) || len(text) > 500 {
				t.Errorf("%s(%q) says %q", where, tt.name, text)
			}
		}
	}
}

// javaTopic is the rule as the server's own Topic.validate has it.
var javaTopic = regexp.MustCompile(`\A[a-zA-Z0-9._-]{1,249}\z`)

// FuzzTopicName: a name that passes the check is one by the server's rule and taken by a
// cluster, and no other passes.
func FuzzTopicName(f *testing.F) {
	for _, tt := range topicNames {
		f.Add(tt.name)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	b := grouped()
	f.Fuzz(func(t *testing.T, name string) {
		err := b.CheckPublishName(name)
		if want := javaTopic.MatchString(name) && name != "." && name != ".."; (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil {
			return
		}
		// Only asked, not made: one topic's name may be too close to another's.
		resp, err := admin.ValidateCreateTopics(context.Background(), 1, 1, nil, name)
		if err == nil {
			err = resp[name].Err
		}
		if err != nil {
			t.Errorf("the cluster refuses %q: %v", name, err)
		}
	})
}
