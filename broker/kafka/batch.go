package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// A record batch is encoded here because kafka-go's encoder has no place for a producer's numbers. The format, version
// 2, is that of https://kafka.apache.org/documentation/#recordbatch; in front of it stands its length.
const (
	lengthBytes = 4
	headBytes   = 61 // of a batch, before its records

	atBatchLength   = lengthBytes + 8
	atMagic         = lengthBytes + 16
	atChecksum      = lengthBytes + 17
	atAttributes    = lengthBytes + 21
	atLastOffset    = lengthBytes + 23
	atBaseTime      = lengthBytes + 27
	atMaxTime       = lengthBytes + 35
	atProducerID    = lengthBytes + 43
	atProducerEpoch = lengthBytes + 51
	atBaseSequence  = lengthBytes + 53
	atCount         = lengthBytes + 57
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encoder makes record batches of messages.
type encoder struct {
	headers     func(all []header, m *core.Message) []header
	compression kafkago.Compression
	body        []byte   // of one record
	own         []header // of one record
}

// encode returns a record batch of msgs, numbered as n says. A message without an enqueue time, and with now set any,
// gets that of now.
func (e *encoder) encode(msgs []*core.Message, n number, now bool) ([]byte, error) {
	size := lengthBytes + headBytes
	for _, m := range msgs {
		size += recordFraming + len(m.Key) + len(m.Payload) + 64
	}
	b := make([]byte, lengthBytes+headBytes, size)
	current := time.Now().UnixMilli()
	var base, latest int64
	for i, m := range msgs {
		at := current
		if !now && !m.EnqueuedAt.IsZero() {
			at = m.EnqueuedAt.UnixMilli()
		}
		if i == 0 {
			base, latest = at, at
		}
		latest = max(latest, at)
		b = e.appendRecord(b, m, int64(i), at-base)
	}
	if e.compression != 0 {
		var err error
		if b, err = compress(b, e.compression); err != nil {
			return nil, err
		}
	}

	put := binary.BigEndian
	put.PutUint32(b, uint32(len(b)-lengthBytes))                                //nolint:gosec // a batch is far below 2 GiB
	put.PutUint32(b[atBatchLength:], uint32(len(b)-atBatchLength-4))            //nolint:gosec // as above
	put.PutUint32(b[atBatchLength+4:], ^uint32(0))                              // the leader's epoch: unknown
	b[atMagic] = 2                                                              // the format's version
	put.PutUint16(b[atAttributes:], uint16(e.compression))                      //nolint:gosec // Validate knows it
	put.PutUint32(b[atLastOffset:], uint32(len(msgs)-1))                        //nolint:gosec // as above
	put.PutUint64(b[atBaseTime:], uint64(base))                                 //nolint:gosec // two's complement, as Kafka reads it
	put.PutUint64(b[atMaxTime:], uint64(latest))                                //nolint:gosec // as above
	put.PutUint64(b[atProducerID:], uint64(n.session.id))                       //nolint:gosec // as above
	put.PutUint16(b[atProducerEpoch:], uint16(n.session.epoch))                 //nolint:gosec // as above
	put.PutUint32(b[atBaseSequence:], uint32(n.sequence))                       //nolint:gosec // as above
	put.PutUint32(b[atCount:], uint32(len(msgs)))                               //nolint:gosec // as above
	put.PutUint32(b[atChecksum:], crc32.Checksum(b[atAttributes:], castagnoli)) // of all that follows it
	return b, nil
}

func (e *encoder) appendRecord(b []byte, m *core.Message, offset, since int64) []byte {
	body := e.body[:0]
	body = append(body, 0) // attributes
	body = binary.AppendVarint(body, since)
	body = binary.AppendVarint(body, offset)
	if m.Key == "" {
		body = binary.AppendVarint(body, -1) // null: no key
	} else {
		body = appendString(body, m.Key)
	}
	body = binary.AppendVarint(body, int64(len(m.Payload))) // never null, which would be a tombstone
	body = append(body, m.Payload...)
	e.own = e.headers(e.own[:0], m)
	body = binary.AppendVarint(body, int64(len(e.own)))
	for _, h := range e.own {
		body = appendString(body, h.name)
		body = appendString(body, h.value)
	}
	e.body = body
	b = binary.AppendVarint(b, int64(len(body)))
	return append(b, body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendVarint(b, int64(len(s))), s...)
}

// compress returns batch with its records compressed.
func compress(batch []byte, compression kafkago.Compression) ([]byte, error) {
	const from = lengthBytes + headBytes
	var out bytes.Buffer
	out.Write(batch[:from])
	w := compression.Codec().NewWriter(&out)
	_, err := io.Copy(w, bytes.NewReader(batch[from:]))
	if closing := w.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("compress with %s: %w", compression, err)
	}
	return out.Bytes(), nil
}
