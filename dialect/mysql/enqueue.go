package mysql

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

const (
	// maxArgs is how many placeholders a statement may have.
	maxArgs = 65_535
	// packetDefault is the room for a statement as long as the server was not asked: what the most careful operators set.
	packetDefault = 1 << 20
	// packetMargin is for the statement around the values.
	packetMargin = 64 << 10
)

// asText makes the column's text of the very bytes of an argument, whatever the character set of the caller's connection.
const asText = `CONVERT(CAST(? AS BINARY) USING utf8mb4)`

// Enqueue implements [core.Dialect]. It is one statement for the events that are due and one for those that are not, unless
// they are more than fit. With the number of rows known beforehand, the server hands out their positions together, in the
// order of the rows, in every innodb_autoinc_lock_mode.
func (d *Dialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	isDelayed := func(m core.Message) bool { return !m.NotBefore.IsZero() }
	if !slices.ContainsFunc(msgs, isDelayed) {
		return d.insert(ctx, tx, msgs, false)
	}
	var due, delayed []core.Message
	for _, m := range msgs {
		if isDelayed(m) {
			delayed = append(delayed, m)
		} else {
			due = append(due, m)
		}
	}
	if err := d.insert(ctx, tx, due, false); err != nil {
		return err
	}
	return d.insert(ctx, tx, delayed, true)
}

func (d *Dialect) insert(ctx context.Context, tx core.Execer, msgs []core.Message, delayed bool) error {
	into := "INSERT INTO {outbox} (id, topic, `key`, headers, payload) VALUES "
	row := "(" + asText + "," + asText + "," + asText + ",?,?)"
	if delayed {
		into = "INSERT INTO {delayed} (id, topic, `key`, headers, payload, not_before) VALUES "
		row = "(" + asText + "," + asText + "," + asText + ",?,?,?)"
	}
	into = d.names.Replace(into)
	perRow := strings.Count(row, "?")
	for len(msgs) > 0 {
		args, n := make([]any, 0, perRow*min(len(msgs), 1000)), 0
		for room := d.room(); n < len(msgs) && (n+1)*perRow <= maxArgs; n++ {
			m := msgs[n]
			encoded, err := encodeHeaders(m.Headers)
			if err != nil {
				return err
			}
			// A driver may escape every byte.
			if room -= 2*(len(m.ID)+len(m.Topic)+len(m.Key)+len(encoded)+len(m.Payload)) + len(row); room < 0 && n > 0 {
				break
			}
			payload := m.Payload
			if payload == nil {
				payload = []byte{} // nil would be NULL
			}
			args = append(args, []byte(m.ID), []byte(m.Topic), []byte(m.Key), encoded, payload)
			if delayed {
				args = append(args, datetime(m.NotBefore))
			}
		}
		if _, err := tx.ExecContext(ctx, into+row+strings.Repeat(","+row, n-1), args...); err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
		msgs = msgs[n:]
	}
	return nil
}

// room is how many bytes of values go into a statement.
func (d *Dialect) room() int {
	packet := int(d.packet.Load())
	if packet == 0 {
		packet = packetDefault
	}
	return packet - packetMargin
}

// encodeHeaders returns a JSON object in ASCII, which every character set of a connection holds. It is a string: bytes are
// refused by a JSON column.
func encodeHeaders(h map[string]string) (string, error) {
	object, err := headers.Encode(h)
	if err != nil || isASCII(object) {
		return object, err
	}
	var b strings.Builder
	for _, r := range object {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	if !json.Valid([]byte(b.String())) {
		return "", fmt.Errorf("encode headers: %q is no JSON", b.String())
	}
	return b.String(), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
