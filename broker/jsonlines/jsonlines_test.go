package jsonlines_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/jsonlines"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		broker, err := jsonlines.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = broker.Close() })
		stored := func(topic string) func(context.Context) ([]core.Message, error) {
			return func(context.Context) ([]core.Message, error) {
				messages, err := read(path)
				return slices.DeleteFunc(messages, func(m core.Message) bool { return m.Topic != topic }), err
			}
		}
		return conformance.BrokerFixture{
			Broker: broker, Topic: "events", OtherTopic: "others", Stored: stored("events"),
			Read: first(stored("events")), ReadOther: first(stored("others")),
		}
	})
}

// first returns the first messages of those that are stored. Publish has returned: nothing more comes.
func first(stored func(context.Context) ([]core.Message, error)) func(context.Context, int) ([]core.Message, error) {
	return func(ctx context.Context, n int) ([]core.Message, error) {
		messages, err := stored(ctx)
		if err == nil && len(messages) < n {
			err = fmt.Errorf("the file holds %d messages, want %d", len(messages), n)
		}
		return messages[:min(n, len(messages))], err
	}
}

// read is a consumer, that knows only the format.
func read(path string) ([]core.Message, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var messages []core.Message
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var l struct {
			ID, Topic, Key, Payload string
			Headers                 map[string]string
			EnqueuedAt              time.Time `json:"enqueued_at"`
			PayloadBase64           []byte    `json:"payload_base64"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			continue // a line that was cut off
		}
		m := core.Message{ID: l.ID, Topic: l.Topic, Key: l.Key, Headers: l.Headers, EnqueuedAt: l.EnqueuedAt, Payload: []byte(l.Payload)}
		if l.PayloadBase64 != nil {
			m.Payload = l.PayloadBase64
		}
		messages = append(messages, m)
	}
	return messages, lines.Err()
}

func TestALineThatWasCutOffIsEnded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(path, []byte(`{"id":"cut o`), 0o600); err != nil {
		t.Fatal(err)
	}
	broker, err := jsonlines.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	if err := broker.Publish(t.Context(), []core.Message{{ID: "1", Topic: "t"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := read(path); err != nil || len(got) != 1 || got[0].ID != "1" {
		t.Errorf("got %v, %v, want message 1", got, err)
	}
}

// failing is a writer that takes half of what it is given once.
type failing struct {
	bytes.Buffer
	failed bool
}

func (f *failing) Write(p []byte) (int, error) {
	if f.failed {
		return f.Buffer.Write(p)
	}
	f.failed = true
	n, _ := f.Buffer.Write(p[:len(p)/2])
	return n, errors.New("no space left")
}

func TestAfterATornWriteTheNextLineIsWhole(t *testing.T) {
	t.Parallel()
	out := &failing{}
	broker := jsonlines.New(out)
	if err := broker.Publish(t.Context(), []core.Message{{ID: "1", Topic: "t"}}); !errors.Is(err, core.ErrUncertain) {
		t.Errorf("got %v, want ErrUncertain", err)
	}
	if err := broker.Publish(t.Context(), []core.Message{{ID: "2", Topic: "t", Payload: []byte{0xff}}}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(out.String(), "\n"); len(lines) != 3 || lines[1] != `{"id":"2","topic":"t","payload_base64":"/w=="}` {
		t.Errorf("got %q", lines)
	}
}
