package all

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	closed := false
	return &config.ScratchTopic{
		Broker: own, Topic: name, Where: "the file " + at,
		Stored: func(context.Context) ([]core.Message, error) { return readLines(at) },
		Remove: func(context.Context) error {
			var err error
			if !closed {
				err, closed = own.Close(), true
			}
			if gone := os.Remove(at); !errors.Is(gone, os.ErrNotExist) {
				err = errors.Join(err, gone)
			}
			return err
		},
	}, nil
}

// readLines reads what package jsonlines wrote. What has no end of line yet is not stored.
func readLines(path string) (all []core.Message, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(content) {
		if len(bytes.TrimSpace(line)) == 0 || line[len(line)-1] != '\n' {
			continue
		}
		var l struct {
			ID, Topic, Key string
			Headers        map[string]string
			EnqueuedAt     time.Time `json:"enqueued_at"`
			Payload        string
			PayloadBase64  []byte `json:"payload_base64"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, err
		}
		m := core.Message{ID: l.ID, Topic: l.Topic, Key: l.Key, Headers: l.Headers, EnqueuedAt: l.EnqueuedAt, Payload: []byte(l.Payload)}
		if l.PayloadBase64 != nil {
			m.Payload = l.PayloadBase64
		}
		all = append(all, m)
	}
	return all, nil
}
