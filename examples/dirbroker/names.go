package dirbroker

import (
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// MaxName is the length of the longest name of a queue, in bytes.
const MaxName = 200

// checkName says why name cannot be a queue. The name becomes the name of a folder,
// so that whatever a file system would understand in another way is refused: a
// separator, a first dot, upper case where "Orders" and "orders" may be one folder.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > MaxName:
		return fmt.Errorf("the name is longer than %d bytes", MaxName)
	case name[0] == '.' || name[len(name)-1] == '.':
		return errors.New("the name begins or ends with a dot")
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return errors.New("the name has something else than the letters a to z, digits, '-', '_' and '.'")
		}
	}
	return nil
}

// CheckSubscribeName reports why name cannot be subscribed to.
func (b *Broker) CheckSubscribeName(name string) error { return refuse("subscribe", name) }

// CheckPublishName reports why nothing can be published to name.
func (b *Broker) CheckPublishName(name string) error { return refuse("publish", name) }

func refuse(op, name string) error {
	if err := checkName(name); err != nil {
		return fail(op, name, broker.ErrInvalid, err)
	}
	return nil
}
