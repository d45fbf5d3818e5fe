package core_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// An operator retries thousands of dead letters. Each of his transactions has the relay begin anew, and it delivers meanwhile: what is new,
// and, where its fetches take longer than the operator pauses, what he has put back.
func TestABulkRetryLeavesTheRelayItsWork(t *testing.T) {
	for _, test := range []struct {
		fetch time.Duration
		want  string
	}{{30 * time.Millisecond, "new"}, {100 * time.Millisecond, "dead"}} {
		t.Run(test.fetch.String(), func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger = quiet
				const n = 5000
				buried := false
				b.fate = func(m core.Message) error {
					if !buried && m.Topic == "dead" {
						return core.ErrPermanent
					}
					return nil
				}
				var msgs []core.Message
				for i := range n {
					msgs = append(msgs, core.Message{ID: fmt.Sprint("dead", i), Topic: "dead", Key: fmt.Sprint(i)})
				}
				b.put(msgs...)
				if _, err := b.relay().RunOnce(b.Context()); err != nil {
					b.Fatal(err)
				}
				buried = true
				b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
					switch c.Op {
					case "Fetch":
						f.Before = test.fetch
					case "RetryDead":
						f.Before = 20 * time.Millisecond
					}
					return f
				})
				b.during(func() {
					time.Sleep(time.Second) // the bubble's clock
					go func() {
						time.Sleep(100 * time.Millisecond) // the bubble's clock
						b.put(core.Message{ID: "new", Topic: "t", Key: "k"})
					}()
					if retried, err := core.NewOperator(b.memory).Retry(b.Context(), core.DeadFilter{}); retried != n || err != nil {
						b.Fatalf("retried %d: %v", retried, err)
					}
					found := 0
					for _, d := range b.recorder.Stored() {
						if strings.HasPrefix(d.Message.ID, test.want) {
							found++
						}
					}
					if found == 0 {
						b.Errorf("while the operator worked, none of %q was delivered", test.want)
					}
					time.Sleep(time.Minute) // the bubble's clock
					b.wantLeft("")
				})
			})
		})
	}
}

// An operator retries more dead letters than a batch has, and they are refused for good again: Retry ends all the same.
func TestRetryLeavesWhatFailsAgain(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.memory.Inject(func(conformance.Call) conformance.Fault { return conformance.Fault{Before: 10 * time.Millisecond} })
		const n = 1000
		var msgs []core.Message
		for i := range n {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("bad", i), Topic: "bad", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		b.fate = func(core.Message) error { return core.ErrPermanent }
		b.runWith(b.relay(), func() {
			time.Sleep(5 * time.Second) // the bubble's clock
			ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
			defer cancel()
			got, err := core.NewOperator(b.memory).Retry(ctx, core.DeadFilter{Topic: "bad"})
			if got != n || err != nil {
				b.Errorf("Retry: got %d, %v, want %d", got, err, n)
			}
		})
	})
}

// What becomes a dead letter while an operator drops others was shown to nobody, and stays.
func TestDropLeavesWhatDiesMeanwhile(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		const n = 1000
		var msgs []core.Message
		for i := range n {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("bad", i), Topic: "bad", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		b.fate = func(core.Message) error { return core.ErrPermanent }
		b.runWith(b.relay(), func() {
			time.Sleep(5 * time.Second) // the bubble's clock
			begun := make(chan struct{})
			begin := sync.OnceFunc(func() { close(begun) })
			b.memory.Inject(func(c conformance.Call) conformance.Fault {
				if c.Op == "DropDead" {
					begin()
				}
				return conformance.Fault{Before: 10 * time.Millisecond}
			})
			op := core.NewOperator(b.memory)
			var got int
			var err error
			var dropping sync.WaitGroup
			dropping.Go(func() { got, err = op.Drop(b.Context(), core.DeadFilter{Topic: "bad"}, "a reason") })
			<-begun
			b.put(core.Message{ID: "late", Topic: "bad", Key: "late"})
			dropping.Wait()
			if got != n || err != nil {
				b.Errorf("Drop: got %d, %v, want %d", got, err, n)
			}
			if left, err := op.Count(b.Context(), core.DeadFilter{Topic: "bad"}); left != 1 || err != nil {
				b.Errorf("%d dead letters are left, %v, want the one that died meanwhile", left, err)
			}
		})
	})
}
