// Package jsonlines publishes to a file or to standard output, a line of JSON for each message: for trying things, and for
// programs that read lines.
//
//	{"id":"018f…","topic":"orders","key":"42","headers":{"content-type":"application/json"},"enqueued_at":"2026-01-02T03:04:05.678901Z","payload":"{\"item\":\"a book\"}"}
//
// A payload that is not UTF-8 is the base64 text payload_base64 instead. What a line has not got is left out.
package jsonlines

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/lockstep-go/lockstep/core"
)

var (
	_ core.Broker     = (*Broker)(nil)
	_ core.KeyOrdered = (*Broker)(nil)
)

// Broker is a [core.Broker] that writes lines. Safe for concurrent use. It keeps no message.
type Broker struct {
	path string                  // of the file; empty where there is none
	file atomic.Pointer[os.File] // nil where there is none yet

	mu     sync.Mutex
	out    io.Writer
	store  func() error // makes what was written last
	buffer bytes.Buffer
	torn   bool // the last write may have ended inside of a line, which the next one ends first
}

// Open returns a broker that appends to the file at path. A file that is not there is created when the first message is
// published, readable by its owner alone; its directory has to be there. Messages are stored when Publish returns nil:
// the file is synced. Close it after the relay ended.
func Open(path string) (*Broker, error) {
	b := &Broker{path: path}
	err := b.open(0)
	if errors.Is(err, os.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("jsonlines: %w", err)
	}
	return b, nil
}

// open opens the file, which is created if create is os.O_CREATE.
func (b *Broker) open(create int) error {
	file, err := os.OpenFile(b.path, create|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	torn, err := endsInALine(file)
	if err == nil {
		err = syncName(file)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	b.out, b.store, b.torn = file, file.Sync, torn
	b.file.Store(file)
	return nil
}

// syncName makes the file's name safe: it may be new, and without its name nothing in it is.
func syncName(file *os.File) error {
	at, err := file.Stat()
	if err != nil || !at.Mode().IsRegular() {
		return err
	}
	dir, err := os.Open(filepath.Dir(file.Name()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// endsInALine reports whether the file's last line has no end, because a crash cut it off.
func endsInALine(file *os.File) (bool, error) {
	at, err := file.Stat()
	if err != nil || !at.Mode().IsRegular() || at.Size() == 0 {
		return false, err
	}
	last := make([]byte, 1)
	_, err = file.ReadAt(last, at.Size()-1)
	return last[0] != '\n', err
}

// New returns a broker that writes to w, which stays the caller's. Messages are stored when w has taken them.
func New(w io.Writer) *Broker {
	return &Broker{out: w, store: func() error { return nil }}
}

// Close closes the file.
func (b *Broker) Close() error {
	file := b.file.Load() // without b.mu: a call that hangs has it
	if file == nil {
		return nil
	}
	return file.Close()
}

// KeyOrdered implements [core.KeyOrdered]: a call is written as a whole or its fate is unknown.
func (*Broker) KeyOrdered() {}

type line struct {
	ID            string            `json:"id"`
	Topic         string            `json:"topic"`
	Key           string            `json:"key,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	EnqueuedAt    time.Time         `json:"enqueued_at,omitzero"`
	Payload       string            `json:"payload,omitempty"`
	PayloadBase64 []byte            `json:"payload_base64,omitempty"`
}

// Publish implements [core.Broker] with one write. After an error some of the lines may be there.
func (b *Broker) Publish(ctx context.Context, msgs []core.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: jsonlines: the call's time was over: %w", core.ErrUncertain, context.Cause(ctx))
	}
	if b.out == nil {
		if err := b.open(os.O_CREATE); err != nil {
			return fmt.Errorf("%w: jsonlines: %w", core.ErrUnavailable, err)
		}
	}
	b.buffer.Reset()
	if b.torn {
		b.buffer.WriteByte('\n')
	}
	encoder := json.NewEncoder(&b.buffer)
	encoder.SetEscapeHTML(false)
	for _, m := range msgs {
		l := line{ID: m.ID, Topic: m.Topic, Key: m.Key, Headers: m.Headers, EnqueuedAt: m.EnqueuedAt.UTC()}
		if m.EnqueuedAt.IsZero() {
			l.EnqueuedAt = time.Time{}
		}
		if utf8.Valid(m.Payload) {
			l.Payload = string(m.Payload)
		} else {
			l.PayloadBase64 = m.Payload
		}
		if err := encoder.Encode(l); err != nil {
			return fmt.Errorf("jsonlines: encode message %s: %w", m.ID, err)
		}
	}
	b.torn = true
	if _, err := b.out.Write(b.buffer.Bytes()); err != nil {
		return fmt.Errorf("%w: jsonlines: write: %w", core.ErrUncertain, err)
	}
	if err := b.store(); err != nil {
		return fmt.Errorf("%w: jsonlines: sync: %w", core.ErrUncertain, err)
	}
	b.torn = false
	return nil
}
