package conformance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

func TestFlakyTellsTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Recorder{}
		broker := Flaky(r.Client(ClientConfig{KeyOrdered: true}), FlakyConfig{Seed: 1, Rate: 0.9, Logf: t.Logf})
		var all, clean, partly, slow int
		for i := range 1000 {
			msgs := []core.Message{keyed(fmt.Sprint(i, "a1"), "a"), keyed(fmt.Sprint(i, "b1"), "b"), keyed(fmt.Sprint(i, "a2"), "a"), keyed(fmt.Sprint(i, "n"), "")}
			began, old := time.Now(), len(r.Stored())
			err := broker.Publish(t.Context(), msgs)
			if time.Since(began) > 0 {
				slow++
			}
			var stored []string
			for _, d := range r.Stored()[old:] {
				stored = append(stored, d.Message.ID)
			}
			var batch *core.BatchError
			switch {
			case err == nil:
				clean++
				if len(stored) != len(msgs) {
					t.Fatalf("nil was returned, and %q are stored", stored)
				}
			case errors.As(err, &batch):
				partly++
				for k, result := range batch.Results {
					if (result == nil) != slices.Contains(stored, msgs[k].ID) {
						t.Fatalf("%q has the result %v, and %q are stored", msgs[k].ID, result, stored)
					}
				}
				if slices.Contains(stored, msgs[2].ID) && !slices.Contains(stored, msgs[0].ID) {
					t.Fatalf("a2 overtook a1: %q are stored", stored)
				}
			case !errors.Is(err, ErrFlaky):
				t.Fatal(err)
			case len(stored) == len(msgs):
				all++
			}
		}
		for what, n := range map[string]int{"stored with an error": all, "stored": clean, "stored in part": partly, "slow": slow} {
			if n < 50 {
				t.Errorf("%d of 1000 calls were %s, want more", n, what)
			}
		}
		if errs := r.Misuse(); errs != nil {
			t.Error(errs)
		}
	})
}

func TestFlakyPassesErrorsOn(t *testing.T) {
	refused := errors.New("refused")
	for _, fault := range []PublishFault{{Err: refused}, {Fates: []Fate{{Err: refused}, {Err: refused}}}} {
		r := &Recorder{}
		r.Inject(func(PublishCall) PublishFault { return fault })
		broker := Flaky(r, FlakyConfig{Rate: 1, MaxDelay: time.Microsecond, Logf: t.Logf})
		for range 100 {
			err := broker.Publish(t.Context(), []core.Message{keyed("a", "a"), keyed("b", "b")})
			if !errors.Is(err, refused) && !errors.Is(err, ErrFlaky) {
				t.Fatalf("Publish: got %v", err)
			}
		}
	}
}

func TestFlakyIsRepeatable(t *testing.T) {
	run := func() (results string) {
		broker := Flaky(&Recorder{}, FlakyConfig{Seed: 7, MaxDelay: time.Nanosecond, Logf: t.Logf})
		for range 100 {
			results += fmt.Sprintln(broker.Publish(t.Context(), []core.Message{keyed("a", "a"), keyed("b", "b")}))
		}
		return results
	}
	if first, second := run(), run(); first != second {
		t.Errorf("one seed gave\n%s and then\n%s", first, second)
	}
}

func TestFlakyHasTheAbilitiesOfItsBroker(t *testing.T) {
	for _, config := range []ClientConfig{{}, {KeyOrdered: true}, {Terms: true}, {KeyOrdered: true, Terms: true}} {
		quiet := FlakyConfig{Logf: t.Logf}
		broker := Flaky(Flaky((&Recorder{}).Client(config), quiet), quiet)
		if _, ok := core.Ability[core.KeyOrdered](broker); ok != config.KeyOrdered {
			t.Errorf("%+v: KeyOrdered is %v", config, ok)
		}
		terms, ok := core.Ability[core.TermBroker](broker)
		if ok != config.Terms {
			t.Errorf("%+v: TermBroker is %v", config, ok)
		}
		if !ok {
			continue
		}
		inTerm, err := terms.ForTerm(t.Context(), core.Term{Outbox: "o", Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := core.Ability[core.KeyOrdered](inTerm); ok != config.KeyOrdered {
			t.Errorf("%+v: in its term KeyOrdered is %v", config, ok)
		}
		if _, ok := inTerm.(interface{ Unwrap() core.Broker }); !ok {
			t.Errorf("%+v: in its term it is not flaky", config)
		}
	}
}
