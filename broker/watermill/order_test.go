package watermill_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// moody is a fake publisher that stores most messages. It fails, panics and hangs with the others, and of those it
// stores some, at once or when they come out of the hang.
type moody struct {
	mu       sync.Mutex
	random   *rand.Rand
	running  map[string]int // calls of a key that will answer in time
	parallel int            // the most keys that were under way at the same time
	faults   []string
	stored   []string
	release  chan struct{}
}

func (p *moody) Publish(_ string, msgs ...*message.Message) error {
	m := msgs[0]
	key := m.Metadata.Get(watermill.KeyMetadata)
	p.mu.Lock()
	mood, takes := p.random.IntN(20), time.Duration(p.random.IntN(5))*time.Millisecond
	before := p.random.IntN(2) == 0
	hangs := mood == 0
	if !hangs {
		if p.running[key]++; p.running[key] > 1 {
			p.faults = append(p.faults, fmt.Sprintf("%d calls of key %s at the same time", p.running[key], key))
		}
		p.parallel = max(p.parallel, len(p.running))
	}
	p.mu.Unlock()

	if hangs {
		if before {
			p.store(m.UUID)
		}
		<-p.release
		if !before {
			p.store(m.UUID)
		}
		return nil
	}
	time.Sleep(takes) // synctest's clock
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.running[key]--; p.running[key] == 0 {
			delete(p.running, key)
		}
	}()
	if mood > 2 || before {
		p.store(m.UUID)
	}
	switch mood {
	case 1:
		return errors.New("refused")
	case 2:
		panic("boom")
	}
	return nil
}

func (p *moody) store(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored = append(p.stored, id)
}

func (*moody) Close() error { return nil }

// A relay over the publisher: one call of a key at a time, keys side by side, everything is stored, and the first
// occurrences of each key are in order whatever the publisher does.
func TestOneInFlightPerKey(t *testing.T) {
	const keys, each = 10, 20
	for range dose.Of(t, 20, 1000) {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			publisher := &moody{random: rand.New(rand.NewPCG(seed, 0)), running: map[string]int{}, release: make(chan struct{})}
			memory := conformance.NewMemory(conformance.MemoryConfig{})
			outbox := core.NewOutbox(memory, core.OutboxConfig{})
			tx, err := memory.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for n := range each {
				for key := range keys {
					m := core.Message{ID: fmt.Sprintf("%d/%02d", key, n), Topic: "orders", Key: fmt.Sprint(key)}
					if err := outbox.Enqueue(t.Context(), tx, m); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			relay, err := core.NewRelay(memory, open(t, publisher), core.RelayConfig{
				PublishTimeout: time.Second, Failures: core.FailurePolicy{MaxAttempts: 1000, MaxDelay: time.Second},
			})
			if err != nil {
				t.Fatal(err)
			}
			for len(memory.Contents().Records) > 0 {
				if _, err := relay.RunOnce(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // synctest's clock
			}
			publisher.mu.Lock()
			faults := slices.Clone(publisher.faults)
			faults = append(faults, disorder(publisher.stored, keys, each)...)
			if publisher.parallel < 2 {
				faults = append(faults, "keys are not published side by side")
			}
			publisher.mu.Unlock()
			close(publisher.release)
			if len(faults) > 0 {
				t.Errorf("seed %#x: %s", seed, strings.Join(faults, "; "))
			}
		})
	}
}

// disorder says what is missing in stored, or comes before something that belongs before it.
func disorder(stored []string, keys, each int) (faults []string) {
	next := make([]int, keys)
	for _, id := range stored {
		var key, n int
		if _, err := fmt.Sscanf(id, "%d/%d", &key, &n); err != nil {
			return []string{err.Error()}
		}
		if n > next[key] {
			faults = append(faults, fmt.Sprintf("%s stands where %d of its key belongs", id, next[key]))
		}
		if n == next[key] {
			next[key]++
		}
	}
	for key, n := range next {
		if n < each {
			faults = append(faults, fmt.Sprintf("key %d ends before %d", key, n))
		}
	}
	return faults
}
