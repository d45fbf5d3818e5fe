// Package cloudevents turns messages into CloudEvents 1.0 in binary mode: the payload stays as it is, and the attributes
// travel beside it, as each protocol's binding says (docs/messages.md).
package cloudevents

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// The headers of a message that become attributes. The content type is not among [Attributes]: the bindings have a
// place of their own for it.
const (
	// TypeHeader says what happened. Without it, the event's type is its topic.
	TypeHeader = "event-type"
	// ContentTypeHeader is what datacontenttype says.
	ContentTypeHeader = "content-type"
)

// Attribute is a context attribute.
type Attribute struct{ Name, Value string }

// Attributes returns the context attributes of m, always in the same order, as an event of source.
func Attributes(m *core.Message, source string) []Attribute {
	kind := m.Headers[TypeHeader]
	if kind == "" {
		kind = m.Topic
	}
	all := make([]Attribute, 0, 7)
	all = append(all, Attribute{"specversion", "1.0"}, Attribute{"id", m.ID}, Attribute{"source", source}, Attribute{"type", kind})
	if m.Key != "" {
		all = append(all, Attribute{"subject", m.Key}, Attribute{"partitionkey", m.Key})
	}
	if !m.EnqueuedAt.IsZero() {
		all = append(all, Attribute{"time", m.EnqueuedAt.UTC().Format(time.RFC3339Nano)})
	}
	return all
}

// ValidateSource reports what keeps source from being the source attribute of an event: it is a URI reference.
func ValidateSource(source string) error {
	if source == "" {
		return errors.New("is empty: name the application, as in /shop/orders")
	}
	// net/url takes spaces and other bytes that no URI has.
	bad := strings.IndexFunc(source, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\^`{|}", r) })
	if bad >= 0 {
		return fmt.Errorf("%q has a character that a URI reference cannot have, at byte %d: encode it with %%", source, bad)
	}
	if _, err := url.Parse(source); err != nil {
		return fmt.Errorf("%q is not a URI reference, such as /shop/orders: %w", source, err)
	}
	return nil
}

// Conflict returns an error where a header of m has a name that begins with prefix, under which the attributes travel.
func Conflict(m *core.Message, prefix string) error {
	for name := range m.Headers {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return fmt.Errorf("the header %q has a name that the attributes of a CloudEvent travel under: choose one that does not begin with %s",
				name, prefix)
		}
	}
	return nil
}
