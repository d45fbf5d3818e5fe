package main

import (
	"time"
	"unicode/utf8"

	"github.com/lockstep-go/lockstep/core"
)

// eventJSON is an event as commands print it.
type eventJSON struct {
	Position      int64             `json:"position"`
	ID            string            `json:"id"`
	Topic         string            `json:"topic"`
	Key           string            `json:"key"`
	Attempts      int               `json:"attempts"`
	EnqueuedAt    time.Time         `json:"enqueued_at"`
	Cause         string            `json:"cause,omitempty"`
	BuriedAt      time.Time         `json:"buried_at,omitzero"`
	DropReason    string            `json:"drop_reason,omitempty"`
	RetryIn       float64           `json:"retry_in_seconds,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	Payload       string            `json:"payload,omitempty"`
	PayloadBase64 []byte            `json:"payload_base64,omitempty"`
}

func recordOf(r core.Record) eventJSON {
	return eventJSON{
		Position: r.Position, ID: r.Message.ID, Topic: r.Message.Topic, Key: r.Message.Key, Attempts: r.Attempts,
		EnqueuedAt: r.Message.EnqueuedAt.UTC(), RetryIn: max(0, r.RetryIn.Seconds()),
	}
}

func letterOf(l core.DeadLetter) eventJSON {
	e := recordOf(l.Record)
	e.Cause, e.BuriedAt, e.DropReason = l.Cause, l.BuriedAt.UTC(), l.DropReason
	return e
}

// withContent adds headers and payload.
func (e eventJSON) withContent(m core.Message) eventJSON {
	e.Headers = m.Headers
	if utf8.Valid(m.Payload) {
		e.Payload = string(m.Payload)
	} else {
		e.PayloadBase64 = m.Payload
	}
	return e
}
