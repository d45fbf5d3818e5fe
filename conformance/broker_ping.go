package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// pingGroup is the check for a [core.Pinger].
var pingGroup = group[BrokerFixture]{
	needs: "a Pinger broker",
	has: func(f BrokerFixture) bool {
		_, ok := core.Ability[core.Pinger](f.Broker)
		return ok
	},
	checks: []check[BrokerFixture]{
		{"ping", "ping returns nil only when the message system answered, and an error when the context is done; what is published is not disturbed", checkPing},
	},
}

// checkPing pings beside what is published, where Freeze is there in a silence as well, and afterwards.
func checkPing(ctx context.Context, f BrokerFixture) error {
	pinger, _ := core.Ability[core.Pinger](f.Broker)
	if err := pingAndPublish(ctx, f, pinger, "before"); err != nil {
		return err
	}
	if f.Freeze == nil {
		return nil
	}
	thaw, err := harm("freeze", f.Freeze)
	if err != nil {
		return err
	}
	defer thaw()
	if err := pingSilence(ctx, pinger); err != nil {
		return err
	}
	thaw()
	if err := awaitAnswer(ctx, pinger); err != nil {
		return fmt.Errorf("after the silence: %w", err)
	}
	return pingAndPublish(ctx, f, pinger, "after")
}

// pingAndPublish does both at the same time.
func pingAndPublish(ctx context.Context, f BrokerFixture, pinger core.Pinger, id string) error {
	published := make(chan error, 1)
	go func() { published <- f.publish(ctx, core.Message{ID: id, Key: "k"}) }()
	pinged := awaitAnswer(ctx, pinger)
	if err := <-published; err != nil {
		return fmt.Errorf("publish beside a ping: %w", err)
	}
	return pinged
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

// pingSilence pings a system that says nothing.
func pingSilence(ctx context.Context, pinger core.Pinger) error {
	const patience = 500 * time.Millisecond
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- pinger.Ping(limited) }()
	late := time.NewTimer(patience + soon)
	defer late.Stop()
	select {
	case err := <-answer:
		if err == nil {
			return errors.New("the message system says nothing, and the ping returned nil")
		}
		return nil
	case <-late.C:
		return fmt.Errorf("the ping had not returned %v after its context ended", soon)
	}
}
