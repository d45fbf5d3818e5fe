package conformance

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// ErrFlaky is the cause of every failure that [Flaky] makes up.
var ErrFlaky = errors.New("made up by conformance.Flaky")

// FlakyConfig sets how often a [Flaky] broker fails, and how. Its zero value works.
type FlakyConfig struct {
	// Seed makes the choices repeatable, as far as the calls come in the same order. Defaults to a random one.
	Seed uint64
	// Rate is the share of calls that go wrong, from 0 to 1. Defaults to 0.2.
	Rate float64
	// MaxDelay is the longest that a slow call is held up. Defaults to 100 ms.
	MaxDelay time.Duration
	// Logf is told the seed, once. A test passes t.Logf. Defaults to log.Printf.
	Logf func(format string, args ...any)
}

// Flaky returns a broker that passes calls on to broker, and makes some of them fail: before broker is called, after it
// has stored the messages, or for some of the messages; or makes them slow. What it returns is true all the same, in
// the sense of [core.Broker]: a message that it reports as stored is. A relay must deliver everything through it, in
// order and with duplicates.
//
// It has broker's abilities: those that only mark it are found through Unwrap, and the brokers that a core.TermBroker
// makes for its terms are flaky, too.
func Flaky(broker core.Broker, config FlakyConfig) core.Broker {
	if config.Seed == 0 {
		config.Seed = rand.Uint64()
	}
	if config.Rate == 0 {
		config.Rate = 0.2
	}
	if config.MaxDelay == 0 {
		config.MaxDelay = 100 * time.Millisecond
	}
	if config.Logf == nil {
		config.Logf = log.Printf
	}
	config.Logf("conformance: flaky broker with seed %d", config.Seed)
	return wrap(broker, (&dice{config: config, random: rand.New(rand.NewPCG(config.Seed, 0))}).publish)
}

// dice are shared by the brokers of all terms.
type dice struct {
	config FlakyConfig
	mu     sync.Mutex
	random *rand.Rand
}

// mishap is what goes wrong with a call.
type mishap int

const (
	noMishap mishap = iota
	failBefore
	failAfter
	failPartly
	beSlow
	mishaps // how many there are
)

// throw chooses the mishap of a call of n messages, how long it is held up, and which messages are not passed on.
func (d *dice) throw(n int) (m mishap, delay time.Duration, omitted []bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.random.Float64() >= d.config.Rate {
		return noMishap, 0, nil
	}
	m = 1 + mishap(d.random.IntN(int(mishaps)-1))
	switch m {
	case beSlow:
		delay = time.Duration(d.random.Int64N(int64(d.config.MaxDelay)))
	case failPartly:
		omitted = make([]bool, n)
		for i := range omitted {
			omitted[i] = d.random.IntN(2) == 0
		}
	}
	return m, delay, omitted
}

func (d *dice) publish(ctx context.Context, broker core.Broker, msgs []core.Message) error {
	mishap, delay, omitted := d.throw(len(msgs))
	switch mishap {
	case failBefore:
		return fmt.Errorf("%w: nothing was sent", ErrFlaky)
	case failAfter:
		return errors.Join(fmt.Errorf("%w: the answer is lost", ErrFlaky), broker.Publish(ctx, msgs))
	case failPartly:
		return publishSome(ctx, broker, msgs, func(i int) error {
			if omitted[i] {
				return fmt.Errorf("%w: %w", ErrFlaky, core.ErrUnavailable)
			}
			return nil
		})
	case beSlow:
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return broker.Publish(ctx, msgs)
}
