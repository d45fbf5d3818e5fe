package all

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
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/broker/jsonlines"
	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

// ScratchTopic implements [config.ScratchBroker]: a file of its own in the same directory.
func (b fileBroker) ScratchTopic(_ context.Context, name string, _ config.Through) (*config.ScratchTopic, error) {
	at := filepath.Join(filepath.Dir(b.path), name+".jsonl")
	own, err := jsonlines.Open(at)
	if err != nil {
		return nil, fmt.Errorf("make a throw-away file: %w", err)
	}
	elsewhere, err := jsonlines.Open(at)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a throw-away file again: %w", err), own.Close(), os.Remove(at))
	}
	closed := false
	lines := &lineReader{path: at}
	return &config.ScratchTopic{
		Broker: own, Elsewhere: elsewhere, Topic: name, Where: "the file " + at,
		Stored: lines.of(name),
		Other: func(context.Context) (string, func(ctx context.Context) ([]core.Message, error), error) { // in the same file
			return name + otherTopic, lines.of(name + otherTopic), nil
		},
		Remove: func(context.Context) error {
			var err error
			if !closed {
				err, closed = errors.Join(own.Close(), elsewhere.Close()), true
			}
			if gone := os.Remove(at); !errors.Is(gone, os.ErrNotExist) {
				err = errors.Join(err, gone)
			}
			return err
		},
	}, nil
}

// lineReader reads what package jsonlines writes, as far as it has an end of line, and each line once.
type lineReader struct {
	path string

	mu     sync.Mutex
	offset int64
	all    []core.Message
}

// of reads a topic.
func (r *lineReader) of(topic string) func(ctx context.Context) ([]core.Message, error) {
	return func(ctx context.Context) (msgs []core.Message, err error) {
		all, err := r.stored(ctx)
		for _, m := range all {
			if m.Topic == topic {
				msgs = append(msgs, m)
			}
		}
		return msgs, err
	}
}

func (r *lineReader) stored(context.Context) ([]core.Message, error) {
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
		if line[len(line)-1] != '\n' {
			break
		}
		if len(line) > 1 { // a torn line was ended
			m, err := decodeLine(line)
			if err != nil {
				return nil, err
			}
			r.all = append(r.all, m)
		}
		r.offset += int64(len(line))
	}
	return r.all[:len(r.all):len(r.all)], nil
}

func decodeLine(line []byte) (m core.Message, err error) {
	var l struct {
		ID, Topic, Key string
		Headers        map[string]string
		EnqueuedAt     time.Time `json:"enqueued_at"`
		Payload        string
		PayloadBase64  []byte `json:"payload_base64"`
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return m, err
	}
	m = core.Message{ID: l.ID, Topic: l.Topic, Key: l.Key, Headers: l.Headers, EnqueuedAt: l.EnqueuedAt, Payload: []byte(l.Payload)}
	if l.PayloadBase64 != nil {
		m.Payload = l.PayloadBase64
	}
	return m, nil
}
