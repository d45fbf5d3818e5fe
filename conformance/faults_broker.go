package conformance

import (
	"context"
	"errors"
	"fmt"
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
	for n, limit := range []time.Duration{100 * time.Millisecond, time.Second} {
		away, cancel := context.WithTimeout(ctx, limit)
		results, err := f.publishEach(away, numbered(0, n, 0), numbered(1, n, 0))
		cancel()
		if err != nil {
			return err
		}
		for _, result := range results {
			switch {
			case result == nil:
				return errors.New("the message system is away, and a message is said to be stored")
			case !errors.Is(result, core.ErrUnavailable) && !errors.Is(result, core.ErrUncertain) && !errors.Is(result, core.ErrNotAttempted):
				return fmt.Errorf("the message system is away, and a message is said to be refused, which counts as an attempt: %w", result)
			}
		}
	}
	heal()
	err = eventually(ctx, "a message that is published after the outage", func() (bool, error) {
		again, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		return f.publish(again, core.Message{ID: "after", Key: "after"}) == nil, nil
	})
	if err != nil {
		return err
	}
	return f.find(ctx, []string{"before", "after"}, 100)
}

// checkBrokerCut breaks the connections between calls and during one.
func checkBrokerCut(ctx context.Context, f BrokerFixture) error {
	var claimed []string
	published := 0
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
		if err != nil {
			return err
		}
		for i, result := range results {
			if published++; result == nil {
				claimed = append(claimed, msgs[i].ID)
			}
		}
	}
	err := eventually(ctx, "a message that is published after the connections broke", func() (bool, error) {
		again, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		published++
		return f.publish(again, core.Message{ID: "after", Key: "after"}) == nil, nil
	})
	if err != nil {
		return err
	}
	return f.find(ctx, append(claimed, "after"), 2*published) // twice: an answer that was lost may have been sent again
}
