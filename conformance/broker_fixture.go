package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// checkFixture looks at the fixture. All other checks believe what it says.
func checkFixture(ctx context.Context, f BrokerFixture) error {
	if needs := f.lacks(); needs != "" {
		return fmt.Errorf("it lacks %s", needs)
	}
	switch {
	case (f.OtherTopic == "") != (f.ReadOther == nil):
		return errors.New("BrokerFixture.OtherTopic and BrokerFixture.ReadOther go together: one of them is missing")
	case f.OtherTopic == f.Topic:
		return errors.New("BrokerFixture.OtherTopic is Topic: it must be another one")
	}
	if err := f.empty(ctx); err != nil {
		return err
	}
	for n := range 2 {
		if err := f.publish(ctx, numbered(0, n, 0)); err != nil {
			return fmt.Errorf("publish a message: %w", err)
		}
		stored, err := f.await(ctx, n+1)
		if err != nil {
			return fmt.Errorf("Read, after %d messages were published, one by one: %w", n+1, err)
		}
		for i, m := range stored {
			if want := numbered(0, i, 0).ID; m.ID != want {
				return fmt.Errorf("Read(%d) returned %s, want messages from the first on, %q at place %d: it may be called again", n+1, list(idsOf(stored)), want, i+1)
			}
		}
	}
	return nil
}

// empty looks whether the topic is, by whatever the fixture reads it with.
func (f BrokerFixture) empty(ctx context.Context) error {
	if err := f.begin(ctx); err != nil || f.Read == nil {
		return err
	}
	// Of an empty topic Read can say nothing, and comes back when its time is over.
	stored, err := f.take(ctx, 100*time.Millisecond, 1)
	if err == nil {
		return fmt.Errorf("the topic holds %s before anything was published: it has to be empty, and the check's own", list(idsOf(stored)))
	}
	if errors.Is(err, errRead) {
		return err
	}
	return nil
}

// lacks names the fields that no fixture may be without, and that are missing.
func (f BrokerFixture) lacks() string {
	return fields(f.lacksAddress(), field("BrokerFixture.Read", f.Read == nil))
}

func (f BrokerFixture) lacksAddress() string {
	return fields(field("BrokerFixture.Broker", f.Broker == nil), field("BrokerFixture.Topic", f.Topic == ""))
}

// field is name, where the fixture lacks it.
func field(name string, lacking bool) string {
	if lacking {
		return name
	}
	return ""
}

func fields(names ...string) string {
	return strings.Join(slices.DeleteFunc(names, func(name string) bool { return name == "" }), ", ")
}

// begin looks whether the topic is empty when a check begins, where that costs nothing.
func (f BrokerFixture) begin(ctx context.Context) error {
	if f.Stored == nil {
		return nil
	}
	if stored, err := f.Stored(ctx); err == nil && len(stored) > 0 {
		return fmt.Errorf("the topic holds %s before the check published anything: it has to be empty, and the check's own", list(idsOf(stored)))
	}
	return nil
}

func (f BrokerFixture) hasOther() bool { return f.OtherTopic != "" && f.ReadOther != nil }

// other is the fixture with the other topic as its topic.
func (f BrokerFixture) other() BrokerFixture {
	return BrokerFixture{Broker: f.Broker, Topic: f.OtherTopic, Read: f.ReadOther, losses: f.losses}
}

// poisoned returns a message of key k that is refused for good.
func (f BrokerFixture) poisoned(id, k string) core.Message {
	return f.Poison(core.Message{ID: id, Topic: f.Topic, Key: k, Headers: map[string]string{}, Payload: []byte("{}")})
}

// poisonsInPlace says that a poisoned message is of the topic and the key that it was made for.
func (f BrokerFixture) poisonsInPlace() bool {
	if f.Poison == nil {
		return false
	}
	inPlace := false
	err := <-guarded(func() error {
		m := f.poisoned("poison", "k")
		inPlace = m.Topic == f.Topic && m.Key == "k"
		return nil
	})
	return inPlace || err != nil // a Poison that panics is told by each check that it adds
}
