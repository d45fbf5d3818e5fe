package outboxtest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// shown is how many bytes of a payload an error shows: enough for the ids and names that events begin with.
const shown = 200

// Compare returns an error that names every difference between got and want, or nil. The messages must be as many and
// in the same order, with the same topic, key, payload (byte by byte) and time. Ids are compared where want has one,
// since Enqueue makes them up, and of the headers only those that want has, since tracing adds its own.
func Compare(got []core.Message, want ...core.Message) error {
	var differences []error
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			differences = append(differences, fmt.Errorf("message %d: got %s, want no more messages", i, describe(got[i])))
		case i >= len(got):
			differences = append(differences, fmt.Errorf("message %d: got no more messages, want %s", i, describe(want[i])))
		default:
			if d := differ(got[i], want[i]); len(d) > 0 {
				differences = append(differences, fmt.Errorf("message %d: %s", i, strings.Join(d, "; ")))
			}
		}
	}
	return errors.Join(differences...)
}

// differ lists the fields in which got is not what want asks for.
func differ(got, want core.Message) (differences []string) {
	add := func(field string, got, want any) {
		differences = append(differences, fmt.Sprintf("%s is %v, want %v", field, got, want))
	}
	if want.ID != "" && got.ID != want.ID {
		add("ID", quote(got.ID), quote(want.ID))
	}
	if got.Topic != want.Topic {
		add("Topic", quote(got.Topic), quote(want.Topic))
	}
	if got.Key != want.Key {
		add("Key", quote(got.Key), quote(want.Key))
	}
	for name, value := range want.Headers {
		if has, ok := got.Headers[name]; !ok {
			add("header "+quote(name), "missing", quote(value))
		} else if has != value {
			add("header "+quote(name), quote(has), quote(value))
		}
	}
	if !bytes.Equal(got.Payload, want.Payload) {
		from := firstDifference(got.Payload, want.Payload)
		field := "Payload"
		if from > 0 {
			field = fmt.Sprintf("Payload from byte %d on", from)
		}
		add(field, quote(string(got.Payload[from:])), quote(string(want.Payload[from:])))
	}
	// Enqueue rounds up to whole microseconds.
	if late := got.NotBefore.Sub(want.NotBefore); late < 0 || late >= time.Microsecond {
		add("NotBefore", got.NotBefore, want.NotBefore)
	}
	return differences
}

// firstDifference returns where to begin showing two payloads that differ: the start, unless what they have in common
// would fill all that is shown.
func firstDifference(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	if n < shown/2 {
		return 0
	}
	return n
}

func describe(m core.Message) string {
	return fmt.Sprintf("one with Topic %s, Key %s, Payload %s", quote(m.Topic), quote(m.Key), quote(string(m.Payload)))
}

func quote(s string) string {
	if len(s) > shown {
		return fmt.Sprintf("%q… (%d bytes)", s[:shown], len(s))
	}
	return fmt.Sprintf("%q", s)
}
