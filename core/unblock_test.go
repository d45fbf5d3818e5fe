package core_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// Keys are unblocked in bulk by what their dead letters are: by topic, cause and age, and not by another dead letter of the key.
func TestUnblockAllGoesByTheLetterThatBlocks(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.fate = func(m core.Message) error {
			if cause := m.Headers["cause"]; cause != "" {
				return fmt.Errorf("%w: %s", core.ErrPermanent, cause)
			}
			return nil
		}
		bury := func(topic, key, cause string) {
			b.put(core.Message{ID: topic + key + cause, Topic: topic, Key: key, Headers: map[string]string{"cause": cause}},
				core.Message{ID: topic + key + cause + "next", Topic: topic, Key: key})
			if _, err := b.relay().RunOnce(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		operator := core.NewOperator(b.memory)
		bury("t", "both", "late") // its letter stays when the key goes on, and blocks nothing
		if _, err := operator.Unblock(b.Context(), "t", "both"); err != nil {
			b.Fatal(err)
		}
		bury("t", "both", "wrong")
		bury("t", "k", "late")
		bury("u", "k", "late")
		time.Sleep(time.Hour) // the bubble's clock
		bury("t", "young", "late")
		bury("t", "other", "wrong")
		if _, err := operator.PauseTopic(b.Context(), "t"); err != nil {
			b.Fatal(err)
		}
		for _, step := range []struct {
			filter core.DeadFilter
			want   int
			left   []string
		}{
			{core.DeadFilter{Topic: "none"}, 0, []string{"t/", "t/both", "t/k", "t/other", "t/young", "u/k"}},
			{core.DeadFilter{Topic: "t", CauseContains: "late", OlderThan: time.Minute}, 1, []string{"t/", "t/both", "t/other", "t/young", "u/k"}},
			{core.DeadFilter{CauseContains: "late"}, 2, []string{"t/", "t/both", "t/other"}},
			{core.DeadFilter{Key: "other"}, 1, []string{"t/", "t/both"}},
			{core.DeadFilter{}, 1, []string{"t/"}},
		} {
			n, err := operator.UnblockAll(b.Context(), step.filter)
			if n != step.want || err != nil {
				b.Errorf("%+v: got %d, %v, want %d", step.filter, n, err, step.want)
			}
			blocked, err := operator.Blocked(b.Context(), "", "", 100)
			if err != nil {
				b.Fatal(err)
			}
			var left []string
			for _, k := range blocked {
				left = append(left, k.Topic+"/"+k.Key)
			}
			if !slices.Equal(left, step.left) {
				b.Errorf("%+v: blocked are %q, want %q", step.filter, left, step.left)
			}
		}
		if n := len(b.memory.Contents().Dead); n != 6 {
			b.Errorf("%d dead letters, want all 6", n)
		}
		if _, err := operator.UnblockAll(b.Context(), core.DeadFilter{Dropped: true}); !errors.Is(err, core.ErrDropped) {
			b.Errorf("for what was dropped: got %v, want ErrDropped", err)
		}
	})
}

// Thousands of keys are unblocked, page by page, and a relay delivers meanwhile.
func TestUnblockAllLeavesTheRelayItsWork(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.fate = func(m core.Message) error {
			if m.Topic == "dead" {
				return core.ErrPermanent
			}
			return nil
		}
		const n = 1200
		var msgs []core.Message
		for i := range n {
			msgs = append(msgs, core.Message{Topic: "dead", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		if _, err := b.relay().RunOnce(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.during(func() {
			time.Sleep(time.Second) // the bubble's clock
			b.enqueue("a1")
			if done, err := core.NewOperator(b.memory).UnblockAll(b.Context(), core.DeadFilter{}); done != n || err != nil {
				b.Errorf("unblocked %d: %v, want %d", done, err, n)
			}
			b.wantStored("a1")
		})
	})
}
