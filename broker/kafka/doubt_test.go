package kafka_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/lockstep-go/lockstep/core"
)

// A leader appends a batch and loses its leadership before it answers; its successor has the batch. What the next tries are
// answered with says nothing of that: the batch's number is not used again, or the next batch would be taken for it, and
// its messages be said to be stored.
func TestANumberIsNotUsedAgainAfterAnyDoubt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answers  []*kerr.Error // to requests that the server has done
		orphaned bool          // from the first of them on nobody leads, as kafka-go learns a second later
	}{
		"not enough replicas": {answers: []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas}},
		"nobody leads":        {answers: slices.Repeat([]*kerr.Error{kerr.NotLeaderForPartition}, 4), orphaned: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, 1)
			adopt := func() {}
			answers := tt.answers
			f.broker.Dial(func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &mislabelled{Conn: conn, next: func() *kerr.Error {
					if len(answers) == 0 {
						return nil
					}
					answer := answers[0]
					answers = answers[1:]
					if tt.orphaned && len(answers) == len(tt.answers)-1 {
						adopt = f.orphan(t)
					}
					return answer
				}}, nil
			})
			f.inTerm(t)
			if err := f.publish(t.Context(), t, core.Message{ID: "a", Key: "a"})[0]; err == nil {
				t.Fatal("no answer said so, and the message is said to be stored")
			}
			adopt()
			answers = nil
			expectClass(t, "b", f.publish(t.Context(), t, core.Message{ID: "b", Key: "b"})[0], nil)
			if stored := f.stored(t); !slices.Equal(stored, []string{"a", "b"}) {
				t.Errorf("stored: %v, want a and b, which were both taken in", stored)
			}
		})
	}
}

// mislabelled is a connection on which answers to produce requests have another code than the server gave, while next has
// some. A topic has one partition here, and so one request at a time.
type mislabelled struct {
	net.Conn
	next   func() *kerr.Error
	answer *kerr.Error
	rest   bytes.Buffer
}

func (c *mislabelled) Write(p []byte) (int, error) {
	const apiKeyAt = 4
	if len(p) > apiKeyAt+2 && binary.BigEndian.Uint16(p[apiKeyAt:]) == produceKey {
		c.answer = c.next()
	}
	return c.Conn.Write(p)
}

func (c *mislabelled) Read(p []byte) (int, error) {
	if c.rest.Len() > 0 {
		return c.rest.Read(p)
	}
	if c.answer == nil {
		return c.Conn.Read(p)
	}
	answer, err := readFrame(c.Conn)
	if err != nil {
		return 0, err
	}
	binary.BigEndian.PutUint16(answer[codeAt(answer):], uint16(c.answer.Code))
	c.answer = nil
	c.rest.Write(binary.BigEndian.AppendUint32(nil, uint32(len(answer))))
	c.rest.Write(answer)
	return c.rest.Read(p)
}
