package crashtest

import (
	"context"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// A message kills each process that publishes it, as one does that makes a client allocate without end. It becomes a dead
// letter, everything else is delivered, and once the fault is mended an operator has it delivered in its place.
func TestAMessageThatKillsEachRelayBecomesADeadLetter(t *testing.T) {
	for _, on := range []database{onPostgres, onSQLite} {
		t.Run(string(on), func(t *testing.T) { testKiller(t, on) })
	}
}

func testKiller(t *testing.T, on database) {
	site := newSite(t, on)
	dialect, err := on.open(site.plan.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer dialect.Close()
	operator := core.NewOperator(dialect)
	site.shop.open(t.Context(), site.seed)
	site.shop.release(600)
	site.shop.close(t)
	killer, behind := site.victim(t)
	deadly := site.plan
	deadly.Killer, deadly.MaxAttempts = killer.ID, 2

	deaths := 0
	for !site.survives(t, deadly, operator, behind) {
		if deaths++; deaths > 40 {
			t.Fatalf("%d relays were killed by one message, and it is no dead letter yet", deaths)
		}
	}

	letter, err := operator.Show(t.Context(), killer.ID)
	if err != nil || letter.Attempts != 2 {
		t.Errorf("the killer: got %+v, %v, want a dead letter after 2 attempts", letter.Record, err)
	}
	if n, err := operator.Count(t.Context(), core.DeadFilter{}); n != 1 || err != nil {
		t.Errorf("dead letters: got %d, %v, want the killer alone", n, err)
	}
	// Three unsuspecting ones, and one for each attempt: more, where a relay told of progress before it was killed.
	t.Logf("result: %d relays were killed; cause: %s", deaths, letter.Cause)
	if deaths < 5 {
		t.Errorf("%d relays were killed, want at least 5", deaths)
	}
	if n, err := operator.Retry(t.Context(), core.DeadFilter{}); n != 1 || err != nil {
		t.Errorf("Retry: got %d, %v, want 1", n, err)
	}
	site.outcome(t, nil).expectPromises(t)
}

// victim picks an order that is not its customer's last, and returns how many come after it.
func (s *site) victim(t *testing.T) (killer order, behind int) {
	t.Helper()
	all, err := s.shop.orders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := map[int]int64{}
	for _, o := range all {
		last[o.Customer] = max(last[o.Customer], o.Seq)
	}
	for customer := 1; customer <= customers; customer++ {
		for _, o := range all {
			if o.Customer == customer && o.Seq >= 2 && o.Seq < last[customer] {
				return o, int(last[customer] - o.Seq)
			}
		}
	}
	t.Fatal("no customer has three orders")
	return order{}, 0
}

// survives runs a relay until it is killed, or everything is delivered but the dead letter and the orders behind it.
func (s *site) survives(t *testing.T, plan relayPlan, operator *core.Operator, behind int) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	relay := startRelay(t, plan)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-relay.drained:
			relay.expectKilled(t)
			s.expireLease(t)
			return false
		case <-ctx.Done():
			t.Fatalf("the relay neither ended nor delivered everything within %v", patience)
		case <-tick.C:
		}
		pending, err := s.shop.pending(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if dead, err := operator.Count(ctx, core.DeadFilter{}); err != nil {
			t.Fatal(err)
		} else if dead == 1 && pending == behind {
			relay.stop(t)
			return true
		}
	}
}
