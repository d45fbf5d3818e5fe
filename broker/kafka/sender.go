package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/cloudevents"
)

// partition is where a record goes.
type partition struct {
	topic string
	id    int
}

// sender sends the messages that a call has for a partition, in order.
type sender struct {
	broker    *Broker
	producer  *producer
	call      *call
	partition partition
	turn      *turn
	encoder   encoder
	undated   bool            // the topic refuses the enqueue times
	held      map[string]bool // keys of which a message is not stored
	stopped   error           // why the rest is not sent
}

func newSender(b *Broker, p *producer, c *call, to partition) *sender {
	return &sender{
		broker: b, producer: p, call: c, partition: to, turn: p.turn(to), held: map[string]bool{},
		encoder: encoder{headers: b.headers, compression: b.compression},
	}
}

// run waits for the partition's turn and sends batch.
func (s *sender) run(ctx context.Context, batch []int) {
	select {
	case s.turn.token <- struct{}{}:
		defer func() { <-s.turn.token }()
	case <-ctx.Done():
		s.call.fail(batch, s.failure(core.ErrUnavailable, fmt.Errorf("earlier calls keep the partition busy: %w", ctx.Err())))
		return
	}
	for len(batch) > 0 {
		n := s.cut(batch)
		s.send(ctx, batch[:n])
		batch = batch[n:]
	}
}

// send sends one record batch. One that is refused for a record in it is sent again in halves, until that record is
// alone; a failure that is not about a record stops the sender.
func (s *sender) send(ctx context.Context, batch []int) {
	batch = s.sendable(batch)
	if len(batch) == 0 {
		return
	}
	verdict, err := s.produce(ctx, batch)
	switch {
	case err == nil:
		return
	case verdict.aboutRecord() && len(batch) > 1:
		s.send(ctx, batch[:len(batch)/2])
		s.send(ctx, batch[len(batch)/2:])
		return
	case !verdict.aboutRecord():
		s.stopped = err
	}
	s.call.fail(batch, err)
	s.hold(batch)
}

func (s *sender) hold(batch []int) {
	for _, i := range batch {
		if key := s.call.msgs[i].Key; key != "" {
			s.held[key] = true
		}
	}
}

// sendable returns the messages of batch that may be sent; the others get their results.
func (s *sender) sendable(batch []int) []int {
	if s.stopped != nil {
		for _, i := range batch {
			s.call.results[i] = behind(s.stopped)
		}
		return nil
	}
	if len(s.held) == 0 && s.broker.source == "" {
		return batch
	}
	var free []int
	for _, i := range batch {
		m := &s.call.msgs[i]
		if s.held[m.Key] {
			s.call.results[i] = fmt.Errorf("%w: kafka: an earlier message of the key failed", core.ErrNotAttempted)
			continue
		}
		if s.broker.source != "" {
			if err := cloudevents.Conflict(m, eventPrefix); err != nil {
				s.call.results[i] = s.failure(core.ErrPermanent, err)
				s.hold([]int{i})
				continue
			}
		}
		free = append(free, i)
	}
	return free
}

// produce sends one batch and returns nil once it is stored.
func (s *sender) produce(ctx context.Context, batch []int) (verdict, error) {
	msgs := make([]*core.Message, len(batch))
	for n, i := range batch {
		msgs[n] = &s.call.msgs[i]
	}
	for {
		if err := ctx.Err(); err != nil {
			return unavailable, s.failure(core.ErrUnavailable, fmt.Errorf("not sent: %w", err))
		}
		number, err := s.producer.number(ctx, s.turn)
		if err != nil {
			return unavailable, err
		}
		encoded, err := s.encoder.encode(msgs, number, s.undated)
		if err != nil {
			return unavailable, s.failure(core.ErrUnavailable, err)
		}
		verdict, err := s.deliver(ctx, encoded, number.session != anonymous)
		switch {
		case err == nil:
			s.turn.next, s.turn.doubtful = number.after(len(batch)), false
			return verdict, nil
		case verdict == misdated && !s.undated:
			s.undated = true
			continue
		case errors.Is(err, kafkago.MessageSizeTooLarge) && len(batch) > 1:
			s.broker.shorten(s.partition.topic, msgs)
		}
		return verdict, s.failure(verdict.class(), err)
	}
}

// doubtPatience is how long a batch whose fate is unknown is sent again: long enough for its partition to get another
// leader, and short enough for what else is in the call.
const doubtPatience = 10 * time.Second

// deliver sends a batch until its fate is known, or newer metadata and a little time do not help. A numbered batch whose
// fate is unknown is sent again as well, the same bytes: it is stored once.
func (s *sender) deliver(ctx context.Context, encoded []byte, numbered bool) (verdict, error) {
	var doubt error // of an earlier try
	var since time.Time
	for try := 0; ; try++ {
		err := s.request(ctx, encoded)
		if err == nil {
			return 0, nil
		}
		verdict := verdictOf(err)
		if !verdict.certain() {
			s.turn.doubtful = true // whatever the next tries are answered with: a former leader's successor may have it
		}
		if verdict == uncertain && numbered && doubt == nil {
			doubt, since = err, time.Now()
		}
		switch {
		case doubt == nil && verdict.passing() && refresh(ctx, try):
		case doubt != nil && verdict.mayPass() && time.Since(since) < s.broker.patience && pause(ctx, try):
		case doubt != nil && verdict != fenced:
			return uncertain, errors.Join(doubt, err)
		default:
			return verdict, err
		}
	}
}

// request makes one request. encoded is not changed any more: kafka-go may read it after the request has ended.
func (s *sender) request(ctx context.Context, encoded []byte) error {
	p := &parcel{batch: bytes.NewReader(encoded)}
	answer, err := s.broker.client.RawProduce(ctx, &kafkago.RawProduceRequest{
		Topic:        s.partition.topic,
		Partition:    s.partition.id,
		RequiredAcks: kafkago.RequireAll,
		RawRecords:   protocol.RawRecordSet{Reader: p},
	})
	if p.withdraw() {
		return notSent(err)
	}
	if err != nil {
		return err
	}
	if len(answer.RecordErrors) > 0 {
		return errors.Join(answer.Error, fmt.Errorf("%d records refused: %v", len(answer.RecordErrors), answer.RecordErrors))
	}
	return answer.Error
}

func (s *sender) failure(class, cause error) error {
	return failure(class, fmt.Sprintf("produce to %s/%d", s.partition.topic, s.partition.id), cause)
}
