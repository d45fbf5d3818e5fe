package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// session is a producer as the cluster knows it. A partition takes nothing from an epoch that is lower than the highest
// it has seen of the id.
type session struct {
	id    int64
	epoch int16
}

// anonymous is the session of a producer that has none: nothing it sends is numbered.
var anonymous = session{-1, -1}

// number is what a record batch is numbered with: its first record's place in what the session has sent to the
// partition. A partition stores nothing twice that has the same number, and nothing that leaves a number out.
type number struct {
	session  session
	sequence int32
}

// after returns the number that follows count records.
func (n number) after(count int) number {
	if n.session != anonymous {
		n.sequence = int32((int64(n.sequence) + int64(count)) & math.MaxInt32) //nolint:gosec // 0 follows the largest
	}
	return n
}

// turn lets one call at a time send to a partition, and numbers what it sends.
type turn struct {
	token chan struct{} // holds one while a call sends
	next  number        // of the next batch
	// doubtful says that a batch with the number next may be stored. It is not used again, for another batch would pass
	// for that one and be dropped: what follows is sent in a later session, in which the numbers begin again.
	doubtful bool
}

// producer sends record batches, one at a time in each partition.
type producer struct {
	broker *Broker
	// transactionalID names the outbox to the cluster. Empty for a producer without a session.
	transactionalID string
	turns           sync.Map      // partition → *turn
	renewing        chan struct{} // holds one token while a later session is asked for

	mu      sync.Mutex
	session session
	renewed time.Time
}

func newProducer(b *Broker, transactionalID string, s session) *producer {
	return &producer{broker: b, transactionalID: transactionalID, renewing: make(chan struct{}, 1), session: s, renewed: time.Now()}
}

func (p *producer) turn(to partition) *turn {
	if t, ok := p.turns.Load(to); ok {
		return t.(*turn)
	}
	t, _ := p.turns.LoadOrStore(to, &turn{token: make(chan struct{}, 1), next: number{anonymous, -1}})
	return t.(*turn)
}

func (p *producer) current() (s session, renewed time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session, p.renewed
}

// The cluster forgets a producer's name that it has not heard of for a week (transactional.id.expiration.ms), and then
// gives the next owner another id, which shuts out nobody. So a session is renewed long before.
const (
	renewAfter = 12 * time.Hour
	renewAgain = time.Minute // when that failed
)

// number returns the number of the next batch of t, whose turn it is. The error is a result.
func (p *producer) number(ctx context.Context, t *turn) (number, error) {
	current, renewed := p.current()
	switch {
	case current == anonymous:
		return t.next, nil
	case t.doubtful && t.next.session == current:
		var err error
		if current, err = p.renew(ctx, current); err != nil {
			return number{}, err
		}
	case time.Since(renewed) > renewAfter:
		switch later, err := p.renew(ctx, current); {
		case err == nil:
			current = later
		case errors.Is(err, core.ErrFenced):
			return number{}, err
		default:
			p.mu.Lock()
			p.renewed = time.Now().Add(renewAgain - renewAfter)
			p.mu.Unlock()
		}
	}
	if t.next.session != current {
		t.next, t.doubtful = number{session: current}, false
	}
	return t.next, nil
}

// renew returns a session that is later than seen. Calls at the same time share one. The cluster gives it only to whoever
// has the latest one (KIP-360), so that it cannot shut out a later owner of the outbox. The error is a result.
func (p *producer) renew(ctx context.Context, seen session) (session, error) {
	select {
	case p.renewing <- struct{}{}:
		defer func() { <-p.renewing }()
	case <-ctx.Done():
		return session{}, failure(core.ErrUnavailable, "take a new epoch", ctx.Err())
	}
	if current, _ := p.current(); current != seen {
		return current, nil
	}
	later, err := p.broker.session(ctx, p.transactionalID, seen)
	switch {
	case verdictOf(err) == fenced:
		return session{}, failure(core.ErrFenced, "take a new epoch", err)
	case err != nil:
		return session{}, failure(core.ErrUnavailable, "take a new epoch", err)
	case later.id == seen.id && later.epoch != seen.epoch+1:
		return session{}, failure(core.ErrFenced, "take a new epoch", fmt.Errorf("the cluster gave epoch %d after %d: another owner came between", later.epoch, seen.epoch))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session, p.renewed = later, time.Now()
	return later, nil
}

// transactionTimeout is for transactions, which are not used here, but has to be in the cluster's range.
const transactionTimeout = time.Minute

// sessionTries is how often session asks again, in steps of the shortest pause: after a restart the coordinator reads its
// log first, and is ready at any moment of these two seconds. Nothing can be sent before.
const sessionTries = 20

// session asks the transactional ID's coordinator for a later session than seen; with anonymous, for one that is later
// than any. It asks again while that may help: what is lost on the way is an epoch at worst.
func (b *Broker) session(ctx context.Context, transactionalID string, seen session) (session, error) {
	for try := 0; ; try++ {
		answer, err := b.client.InitProducerID(ctx, &kafkago.InitProducerIDRequest{
			TransactionalID:      transactionalID,
			TransactionTimeoutMs: int(transactionTimeout.Milliseconds()),
			ProducerID:           int(seen.id),
			ProducerEpoch:        int(seen.epoch),
		})
		if err == nil {
			err = answer.Error
		}
		if err == nil {
			return session{int64(answer.Producer.ProducerID), int16(answer.Producer.ProducerEpoch)}, nil //nolint:gosec // it was one
		}
		if verdictOf(err) == fenced || refuses(err) || try == sessionTries || !pause(ctx, 0) {
			return session{}, err
		}
	}
}
