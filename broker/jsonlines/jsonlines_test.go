package jsonlines_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
		file := &reader{path: path}
		stored := func(topic string) func(context.Context) ([]core.Message, error) {
			return func(context.Context) ([]core.Message, error) {
				messages, err := file.read()
				return slices.DeleteFunc(slices.Clone(messages), func(m core.Message) bool { return m.Topic != topic }), err
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

// reader is a consumer, that knows only the format. It reads each line once: some checks ask for all of ten megabytes often.
type reader struct {
	path string

	mu       sync.Mutex
	offset   int64
	messages []core.Message
}

// read returns the messages of all lines that have an end.
func (r *reader) read() ([]core.Message, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	file, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // nothing was published yet
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.NewSectionReader(file, r.offset, math.MaxInt64-r.offset))
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		r.offset += int64(len(line))
		var l struct {
			ID, Topic, Key, Payload string
			Headers                 map[string]string
			EnqueuedAt              time.Time `json:"enqueued_at"`
			PayloadBase64           []byte    `json:"payload_base64"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			continue // a line that was cut off
		}
		m := core.Message{ID: l.ID, Topic: l.Topic, Key: l.Key, Headers: l.Headers, EnqueuedAt: l.EnqueuedAt, Payload: []byte(l.Payload)}
		if l.PayloadBase64 != nil {
			m.Payload = l.PayloadBase64
		}
		r.messages = append(r.messages, m)
	}
	return r.messages, nil
}

// Who only looks at a configuration leaves nothing behind.
func TestTheFileIsMadeByTheFirstMessage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	broker, err := jsonlines.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Open: got %v, want no file", err)
	}
	if err := broker.Publish(t.Context(), []core.Message{{ID: "1", Topic: "t"}}); err != nil {
		t.Fatal(err)
	}
	if at, err := os.Stat(path); err != nil || at.Mode() != 0o600 {
		t.Errorf("after Publish: got %v, %v, want a file for its owner alone", at, err)
	}
	if err := broker.Close(); err != nil {
		t.Error(err)
	}
	if err := broker.Publish(t.Context(), []core.Message{{ID: "2", Topic: "t"}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: got %v, want os.ErrClosed", err)
	}
}

func TestADirectoryThatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	path := filepath.Join(dir, "events.jsonl")
	if _, err := jsonlines.Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open: got %v, want os.ErrNotExist", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	broker, err := jsonlines.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := broker.Publish(t.Context(), []core.Message{{ID: "1", Topic: "t"}}); !errors.Is(err, core.ErrUnavailable) {
		t.Errorf("Publish: got %v, want ErrUnavailable", err)
	}
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
	if got, err := (&reader{path: path}).read(); err != nil || len(got) != 1 || got[0].ID != "1" {
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
