package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

func isPinger(f BrokerFixture) bool {
	_, ok := core.Ability[core.Pinger](f.Broker)
	return ok
}

// pingGroup is the check for a [core.Pinger], and silentPingGroup the one of what pings are for.
var (
	pingGroup = group[BrokerFixture]{
		needs: "a Pinger broker",
		has:   isPinger,
		checks: []check[BrokerFixture]{
			{"ping", "a ping finds out that the message system answers, and returns an error when its context is done; what is published at the same time is not disturbed", checkPing},
		},
	}
	silentPingGroup = group[BrokerFixture]{
		needs: "a Pinger broker and Freeze",
		has:   func(f BrokerFixture) bool { return isPinger(f) && f.Freeze != nil },
		checks: []check[BrokerFixture]{
			{"ping-silence", "ping must return nil only when the message system did answer: in a silence it returns an error when its context is done, and nil again afterwards. (That what begins then uses no connection that was idle is not asked.)", checkPingSilence},
		},
	}
)

// checkPing pings beside what is published, and with a context that has ended.
func checkPing(ctx context.Context, f BrokerFixture) error {
	pinger, _ := core.Ability[core.Pinger](f.Broker)
	if err := pingAndPublish(ctx, f, pinger, "before"); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	err, returned := pingUntil(ended, pinger)
	if returned && err == nil {
		return errors.New("its context had ended, and the ping returned nil")
	}
	return unlessReturned(returned)
}

// checkPingSilence pings before, in and after a silence.
func checkPingSilence(ctx context.Context, f BrokerFixture) error {
	pinger, _ := core.Ability[core.Pinger](f.Broker)
	if err := pingAndPublish(ctx, f, pinger, "before"); err != nil {
		return err
	}
	thaw, err := harm("freeze", f.Freeze)
	if err != nil {
		return err
	}
	defer thaw()
	limited, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	err, returned := pingUntil(limited, pinger)
	if returned && err == nil {
		return errors.New("the message system says nothing, and the ping returned nil")
	}
	if err := unlessReturned(returned); err != nil {
		return err
	}
	thaw()
	answered, cancel := context.WithTimeout(ctx, inTheEnd)
	defer cancel()
	err = awaitAnswer(answered, pinger)
	if err == nil {
		err = pingAndPublish(ctx, f, pinger, "after")
	}
	if err != nil {
		return fmt.Errorf("after the silence: %w", err)
	}
	return nil
}

// pingAndPublish does both at the same time: each of some pings begins when a call is begun, and while another one is under way.
func pingAndPublish(ctx context.Context, f BrokerFixture, pinger core.Pinger, id string) error {
	const publishers, pings = 2, 5
	limited, cancel := context.WithTimeout(ctx, inTheEnd)
	defer cancel()
	begun, pinged := make(chan struct{}), make(chan struct{})
	failed := make(chan error, publishers)
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-pinged:
					return
				case begun <- struct{}{}:
				default:
				}
				if err := f.publish(ctx, core.Message{ID: fmt.Sprintf("%s %d/%d", id, p, n), Key: fmt.Sprint("k", p)}); err != nil {
					failed <- fmt.Errorf("publish beside a ping: %w", err)
					return
				}
			}
		})
	}
	var err error
	for n := 0; n < pings && err == nil; n++ {
		select {
		case <-begun:
			err = awaitAnswer(limited, pinger)
		case err = <-failed:
			failed <- err
		}
	}
	close(pinged)
	publishing.Wait()
	select {
	case err = <-failed: // which says more than that a ping failed as well
	default:
	}
	return err
}

// awaitAnswer pings until ctx is done, because a system that was silent may take its time.
func awaitAnswer(ctx context.Context, pinger core.Pinger) error {
	for {
		limited, cancel := context.WithTimeout(ctx, soon)
		err := pinger.Ping(limited)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the message system answers, and a ping does not find out: %w", err)
		case <-time.After(10 * time.Millisecond): // between two questions
		}
	}
}

// pingUntil pings once, and says whether that returned soon after the end of ctx.
func pingUntil(ctx context.Context, pinger core.Pinger) (result error, returned bool) {
	answer := make(chan error, 1)
	go func() { answer <- pinger.Ping(ctx) }()
	select {
	case err := <-answer:
		return err, true
	case <-ctx.Done():
	}
	late := time.NewTimer(soon)
	defer late.Stop()
	select {
	case err := <-answer:
		return err, true
	case <-late.C:
		return nil, false
	}
}

func unlessReturned(returned bool) error {
	if !returned {
		return fmt.Errorf("the ping had not returned %v after its context ended", soon)
	}
	return nil
}
