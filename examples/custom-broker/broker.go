package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/lockstep-go/lockstep/core"
)

// This is the tutorial for a broker of your own. What a Broker must do stands in core.Broker; here is how a small one does
// it, in the order in which to think of it.

// FileBroker appends each topic's messages to a file of its own, one JSON object a line: an audit log, or what another
// program follows with tail -f.
type FileBroker struct {
	dir  string
	mu   sync.Mutex                // Publish may be called from several goroutines at the same time; see lock for processes
	sync func(file *os.File) error // of a file or of the directory; the test's knows what a power cut leaves
	// named has the topics whose files' names this process has synced. That there are lines in a file says nothing: the
	// process that wrote them may have been killed before it synced the name.
	named map[string]bool
}

// maxHeaders is how many headers whoever reads the files has columns for.
const maxHeaders = 100

// The compiler looks after the interfaces. KeyOrdered is an ability: it says that a call may hold several messages of one
// key, because they are stored in order, and none behind one that is not. Without it everything works, with smaller calls.
var (
	_ core.Broker     = (*FileBroker)(nil)
	_ core.KeyOrdered = (*FileBroker)(nil)
)

// NewFileBroker returns a broker that writes to files in dir.
func NewFileBroker(dir string) *FileBroker {
	return &FileBroker{dir: dir, sync: (*os.File).Sync, named: map[string]bool{}}
}

// KeyOrdered implements core.KeyOrdered.
func (*FileBroker) KeyOrdered() {}

// line is how a message is stored. Carry every part of it: consumers recognise a re-delivery by the id.
type line struct {
	ID      string            `json:"id"`
	Key     string            `json:"key,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Payload []byte            `json:"payload"` // any bytes: encoding/json makes base64 of it
}

// Publish stores msgs. A nil error is a promise: every message is as safe as this broker makes it, so fsync comes first, of
// the file and of its name. The fixture's Restart is a power cut, which loses what was not synced.
func (b *FileBroker) Publish(ctx context.Context, msgs []core.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// One result for each message. What is wrong with a message is its own fault, and must not hurt the others; but none of
	// its key may be stored behind it.
	results := refusals(msgs)
	failed := false
	// Messages of one topic share a file and so a fate; those of different topics do not, and one topic that cannot be
	// written must not hurt the others.
	byTopic := map[string][]int{}
	for i := range msgs {
		if results[i] != nil {
			failed = true
			continue
		}
		byTopic[msgs[i].Topic] = append(byTopic[msgs[i].Topic], i)
	}
	for topic, places := range byTopic {
		if err := b.appendTo(ctx, topic, msgs, places); err != nil {
			failed = true
			for _, i := range places {
				results[i] = err
			}
		}
	}
	if !failed {
		return nil
	}
	return &core.BatchError{Results: results}
}

// refusals returns the results of messages that are not to be stored: what no retry mends is core.ErrPermanent, and what
// stands behind it in the same key core.ErrNotAttempted.
func refusals(msgs []core.Message) []error {
	type key struct{ topic, key string }
	results := make([]error, len(msgs))
	refused := map[key]bool{}
	for i, m := range msgs {
		k := key{m.Topic, m.Key}
		switch {
		case len(m.Headers) > maxHeaders:
			results[i] = fmt.Errorf("%w: %d headers: at most %d have a column", core.ErrPermanent, len(m.Headers), maxHeaders)
			refused[k] = m.Key != "" // messages without a key have no order
		case refused[k]:
			results[i] = core.ErrNotAttempted
		}
	}
	return results
}

// appendTo stores the messages at places, all of them or none. Which error it returns decides what the relay does:
// core.ErrPermanent buries a message at once, core.ErrUnavailable and core.ErrUncertain try again for ever and count
// nothing, and any other counts as a failed attempt.
func (b *FileBroker) appendTo(ctx context.Context, topic string, msgs []core.Message, places []int) error {
	// The message's own fault, which no retry mends.
	if strings.ContainsAny(topic, `/\`) || topic == "." || topic == ".." {
		return fmt.Errorf("%w: the topic %q cannot be a file's name", core.ErrPermanent, topic)
	}
	// The context's end is nobody's fault. Nothing was written yet, so the relay need not fear a duplicate.
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", core.ErrUnavailable, err)
	}
	// The broker's fault, which is not the message's: the directory may be a disk that is not mounted just now.
	file, err := os.OpenFile(filepath.Join(b.dir, topic+".jsonl"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", core.ErrUnavailable, err)
	}
	defer file.Close()
	// While an outbox changes hands, the relays of two processes publish at the same time. They are two FileBrokers, and from
	// here on each needs the file for itself: what one takes for the end, or takes back, the other one may have written.
	if err := lock(ctx, file); err != nil {
		return fmt.Errorf("%w: lock the topic's file: %w", core.ErrUnavailable, err)
	}
	end, err := endOfLines(file)
	if err != nil {
		return fmt.Errorf("%w: %w", core.ErrUnavailable, err)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, i := range places {
		m := &msgs[i] // only read: the engine may have it in another call's memory as well
		if err := encoder.Encode(line{m.ID, m.Key, m.Headers, m.Payload}); err != nil {
			return fmt.Errorf("%w: %w", core.ErrPermanent, err)
		}
	}
	if _, err = file.WriteAt(text.Bytes(), end); err == nil {
		err = b.sync(file)
	}
	if err == nil && !b.named[topic] {
		err = b.syncDir() // a file is not safe before its name is
	}
	if err == nil {
		b.named[topic] = true
		return nil
	}
	// Some of it may have been written. Where that can be taken back, nothing is stored and everybody knows; where it
	// cannot, say that nobody knows. What must not happen is that a later message is stored behind a hole.
	if file.Truncate(end) == nil && b.sync(file) == nil {
		return fmt.Errorf("%w: %w", core.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", core.ErrUncertain, err)
}

func (b *FileBroker) syncDir() error {
	d, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return b.sync(d)
}

// endOfLines returns where the last whole line ends. Behind it is what a crash left of a write that was never confirmed:
// it is overwritten.
func endOfLines(file *os.File) (int64, error) {
	end, err := file.Seek(0, 2)
	if err != nil || end == 0 {
		return 0, err
	}
	buffer := make([]byte, 4096)
	for end > 0 {
		from := max(0, end-int64(len(buffer)))
		piece := buffer[:end-from]
		if _, err := file.ReadAt(piece, from); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(piece, '\n'); i >= 0 {
			end = from + int64(i) + 1
			break
		}
		end = from
	}
	return end, file.Truncate(end)
}

// Read returns what a topic holds, as a consumer would.
func (b *FileBroker) Read(topic string) ([]core.Message, error) {
	text, err := os.ReadFile(filepath.Join(b.dir, topic+".jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var msgs []core.Message
	for l := range bytes.Lines(text) {
		if !bytes.HasSuffix(l, []byte("\n")) {
			break // being written, or never finished
		}
		var m line
		if err := json.Unmarshal(l, &m); err != nil {
			return nil, err
		}
		msgs = append(msgs, core.Message{ID: m.ID, Topic: topic, Key: m.Key, Headers: m.Headers, Payload: m.Payload})
	}
	return msgs, nil
}
