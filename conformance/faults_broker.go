package conformance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

func checkBrokerOutage(ctx context.Context, f BrokerFixture) error {
	if err := f.publish(ctx, core.Message{ID: "before", Key: "k"}); err != nil {
		return err
	}
	heal, err := harm("begin the outage", f.Outage)
	if err != nil {
		return err
	}
	defer heal()
	v := &verdicts{}
	for n, limit := range []time.Duration{100 * time.Millisecond, time.Second} {
		away, cancel := context.WithTimeout(ctx, limit)
		msgs := []core.Message{numbered(0, n, 0), numbered(1, n, 0)}
		results, err := f.publishEach(away, msgs...)
		cancel()
		if err == nil && slices.Contains(results, nil) {
			err = errors.New("the message system is away, and a message is said to be stored")
		}
		if err == nil {
			err = v.hear("the message system is away", msgs, results)
		}
		if err != nil {
			return err
		}
	}
	heal()
	after, err := f.again(ctx, "after the outage", v.last)
	if err != nil {
		return err
	}
	return v.hold(ctx, f, 1+2*(v.published+after), "before")
}

// checkBrokerCut breaks the connections between calls and during one.
func checkBrokerCut(ctx context.Context, f BrokerFixture) error {
	v := &verdicts{}
	for n := range 10 {
		cut := make(chan struct{})
		go func() {
			defer close(cut)
			f.Cut()
		}()
		if n%2 == 0 {
			<-cut
		}
		limited, cancel := context.WithTimeout(ctx, soon)
		msgs := []core.Message{numbered(0, n, 10_000), numbered(1, n, 10_000)}
		results, err := f.publishEach(limited, msgs...)
		cancel()
		<-cut
		if err == nil {
			err = v.hear("its connection broke", msgs, results)
		}
		if err != nil {
			return err
		}
	}
	after, err := f.again(ctx, "after the connections broke", v.last)
	if err != nil {
		return err
	}
	return v.hold(ctx, f, 2*(v.published+after)) // twice: an answer that was lost may have been sent again
}
