package kafka

import (
	"context"
	"errors"
	"fmt"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// partition is where a record goes.
type partition struct {
	topic string
	id    int
}

// turn lets one call at a time send to a partition. It holds one token while a call does.
type turn chan struct{}

func (b *Broker) turn(p partition) turn {
	if t, ok := b.turns.Load(p); ok {
		return t.(turn)
	}
	t, _ := b.turns.LoadOrStore(p, make(turn, 1))
	return t.(turn)
}

// sender sends the messages that a call has for a partition, in order.
type sender struct {
	broker    *Broker
	call      *call
	partition partition
	held      map[string]bool // keys of which a message is not stored
	stopped   error           // why the rest is not sent
}

// run waits for the partition's turn and sends batch.
func (s *sender) run(ctx context.Context, batch []int) {
	turn := s.broker.turn(s.partition)
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		s.call.fail(batch, s.failure(core.ErrUnavailable, fmt.Errorf("earlier calls keep the partition busy: %w", ctx.Err())))
		return
	}
	for len(batch) > 0 {
		n := s.call.cut(batch)
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
	for _, i := range batch {
		if key := s.call.msgs[i].Key; key != "" {
			s.held[key] = true
		}
	}
}

// sendable returns the messages of batch that nothing earlier keeps back; the others get their results.
func (s *sender) sendable(batch []int) []int {
	if s.stopped != nil {
		for _, i := range batch {
			s.call.results[i] = behind(s.stopped)
		}
		return nil
	}
	if len(s.held) == 0 {
		return batch
	}
	var free []int
	for _, i := range batch {
		if s.held[s.call.msgs[i].Key] {
			s.call.results[i] = fmt.Errorf("%w: kafka: an earlier message of the key failed", core.ErrNotAttempted)
			continue
		}
		free = append(free, i)
	}
	return free
}

// produce sends one batch and returns nil once it is stored. It tries again while the batch is surely not stored and
// newer metadata may help.
func (s *sender) produce(ctx context.Context, batch []int) (verdict, error) {
	for try := 0; ; try++ {
		if err := ctx.Err(); err != nil {
			return unavailable, s.failure(core.ErrUnavailable, fmt.Errorf("not sent: %w", err))
		}
		err := s.request(ctx, batch)
		if err == nil {
			return 0, nil
		}
		verdict := verdictOf(err)
		if verdict == misrouted && refresh(ctx, try) {
			continue
		}
		return verdict, s.failure(verdict.class(), err)
	}
}

// request makes one request.
func (s *sender) request(ctx context.Context, batch []int) error {
	records := make([]kafkago.Record, len(batch))
	for n, i := range batch {
		records[n] = toRecord(&s.call.msgs[i])
	}
	answer, err := s.broker.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic:        s.partition.topic,
		Partition:    s.partition.id,
		RequiredAcks: kafkago.RequireAll,
		Records:      kafkago.NewRecordReader(records...),
	})
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
