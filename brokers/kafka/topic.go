package kafka

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/gostream/gostream/broker"
)

// maxTopicName is the longest topic name in bytes: the server's own rule, from the
// names of its files.
const maxTopicName = 249

var errTopicEmpty = errors.New("the topic is empty")

// checkTopic applies the server's rule for topic names.
func checkTopic(name string) error {
	switch {
	case name == "":
		return errTopicEmpty
	case name == "." || name == "..":
		return fmt.Errorf("the topic %s is no name: the server keeps it for folders", broker.Quote(name))
	case len(name) > maxTopicName:
		return fmt.Errorf("the topic %s is too long: at most %d bytes", broker.Quote(name), maxTopicName)
	}
	for i := range len(name) {
		if !isTopicByte(name[i]) {
			return fmt.Errorf("the topic %s has a character other than a letter, a digit, '.', '_' and '-'", broker.Quote(name))
		}
	}
	return nil
}

func isTopicByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// internalTopics begin so, by convention; a pattern does not match them.
const internalPrefix = "__"

// anchored returns the pattern as one that matches whole names only: the client's own
// regular expressions match anywhere.
func anchored(pattern string) string { return "^(?:" + pattern + ")$" }

// compilePattern reads a pattern of topics.
func compilePattern(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		return nil, errors.New("the pattern is empty")
	}
	if _, err := regexp.Compile(pattern); err != nil { // before it is wrapped, so that the error shows what was given
		return nil, fmt.Errorf("the pattern is no regular expression: %w", err)
	}
	re, err := regexp.Compile(anchored(pattern))
	if err != nil {
		return nil, fmt.Errorf("the pattern is no regular expression: %w", err)
	}
	return re, nil
}

// quotePattern quotes a pattern as a program would write it.
func quotePattern(pattern string) string {
	const short = 120
	if len(pattern) <= short && strconv.CanBackquote(pattern) {
		return "`" + pattern + "`"
	}
	return broker.Quote(pattern)
}

// matchesPattern reports whether the pattern of a source takes the topic.
func matchesPattern(re *regexp.Regexp, topic string) bool {
	return re != nil && !strings.HasPrefix(topic, internalPrefix) && re.MatchString(topic)
}

// maxGroupName bounds the name of a group: the protocol's strings are shorter than
// 32 KiB, and the server keeps it as a key.
const maxGroupName = 32_000

func checkGroup(name string) error {
	switch {
	case name == "":
		return errors.New("the group is empty")
	case len(name) > maxGroupName:
		return fmt.Errorf("the group %s is too long: at most %d bytes", broker.Quote(name), maxGroupName)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("the group %s has a zero byte", broker.Quote(name))
	}
	return nil
}
