package brokertest

import (
	"fmt"

	"github.com/gostream/gostream/broker"
)

// need is what a check is not applicable without.
type need struct {
	what    string                     // "Properties.Ordered", for lists
	missing func(*env) (string, error) // why the check is not applicable, "" where it is
}

// needProperty is a need of a property that the source declares.
func needProperty(name string, has func(broker.Properties) bool) need {
	return need{"Properties." + name, func(e *env) (string, error) {
		p, err := e.properties()
		if err != nil || has(p) {
			return "", err
		}
		return "the source does not declare " + name, nil
	}}
}

// needHarness is a need of an optional field of the harness.
func needHarness(field string, has func(*Harness) bool) need {
	return need{"Harness." + field, func(e *env) (string, error) {
		if has(&e.h) {
			return "", nil
		}
		return "the harness has no " + field, nil
	}}
}

var (
	needRedelivers   = needProperty("Redelivers", func(p broker.Properties) bool { return p.Redelivers })
	needOrdered      = needProperty("Ordered", func(p broker.Properties) bool { return p.Ordered })
	needOrderedByKey = needProperty("OrderedByKey", func(p broker.Properties) bool { return p.OrderedByKey })
	needCounts       = needProperty("CountsDeliveries", func(p broker.Properties) bool { return p.CountsDeliveries })
	needKeys         = needProperty("Keys", func(p broker.Properties) bool { return p.Keys != broker.KeysNone })
	needPersistent   = needProperty("Persistent", func(p broker.Properties) bool { return p.Persistent })

	needPattern       = needHarness("Pattern", func(h *Harness) bool { return h.Pattern != nil })
	needInterrupt     = needHarness("Interrupt", func(h *Harness) bool { return h.Interrupt != nil })
	needRestart       = needHarness("Restart", func(h *Harness) bool { return h.Restart != nil })
	needUnreachable   = needHarness("Unreachable", func(h *Harness) bool { return h.Unreachable != nil })
	needMisconfigured = needHarness("Misconfigured", func(h *Harness) bool { return h.Misconfigured != nil })
	needSecrets       = needHarness("Secrets", func(h *Harness) bool { return len(h.Secrets) > 0 })
)

// needGroup is a need of competing consumers. That they are declared and cannot be
// tried is said aloud.
var needGroup = need{"Harness.Group", func(e *env) (string, error) {
	if e.h.Group != nil {
		return "", nil
	}
	p, err := e.properties()
	if p.CompetingConsumers {
		return "the harness has no Group, so that CompetingConsumers, which is declared, was not tried", err
	}
	return "the harness has no Group", err
}}

// needNoRedelivery is the opposite of needRedelivers: rules for transports without
// acknowledgements.
var needNoRedelivery = need{"no Properties.Redelivers", func(e *env) (string, error) {
	p, err := e.properties()
	if err != nil || !p.Redelivers {
		return "", err
	}
	return "the source redelivers", nil
}}

// needUnsettled is a need of n deliveries that are unsettled at once.
func needUnsettled(n int) need {
	return need{fmt.Sprintf("SourceSpec.Limit of at least %d", n), func(e *env) (string, error) {
		spec, err := e.spec()
		if err != nil || spec.Limit == 0 || spec.Limit >= n {
			return "", err
		}
		return fmt.Sprintf("the source allows %d unsettled deliveries, the check needs %d", spec.Limit, n), nil
	}}
}
