package conformance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

func storedIDs(r *Recorder) string {
	var list []string
	for _, d := range r.Stored() {
		list = append(list, d.Message.ID)
	}
	return fmt.Sprint(list)
}

func expectStored(t *testing.T, r *Recorder, want ...string) {
	t.Helper()
	if got := storedIDs(r); got != fmt.Sprint(want) {
		t.Errorf("stored: got %v, want %v", got, want)
	}
}

func TestRecorderKeepsWhatABrokerMust(t *testing.T) {
	for name, config := range map[string]ClientConfig{"minimal": {}, "key ordered": {KeyOrdered: true}} {
		t.Run(name, func(t *testing.T) {
			TestBroker(t, func(t *testing.T) BrokerFixture {
				r := &Recorder{}
				t.Cleanup(func() { // the checks, too, keep what is promised to a broker
					if errs := r.Misuse(); errs != nil {
						t.Error(errs)
					}
				})
				return RecorderFixture(r, r.Client(config))
			})
		})
	}
}

func TestRecorderFates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Recorder{}
		r.Inject(func(PublishCall) PublishFault {
			return PublishFault{
				Before: time.Second, After: time.Second,
				Fates: []Fate{{}, {Err: core.ErrPermanent}, {Err: core.ErrUncertain, Store: true}, {Err: core.ErrUncertain, LateCopy: time.Second}},
			}
		})
		began := time.Now()
		err := r.Publish(t.Context(), []core.Message{keyed("a", "1"), keyed("b", "2"), keyed("c", "3"), keyed("d", "4"), keyed("e", "5")})
		if got := time.Since(began); got != 2*time.Second {
			t.Errorf("the call took %v, want 2 s", got)
		}
		var batch *core.BatchError
		if !errors.As(err, &batch) || fmt.Sprint(batch.Results) != "[<nil> permanent failure uncertain uncertain <nil>]" {
			t.Errorf("Publish: got %v", err)
		}
		expectStored(t, r, "a", "c", "e")
		time.Sleep(time.Second) // the bubble's clock
		expectStored(t, r, "a", "c", "e", "d")
		if d := r.Stored()[3]; !d.Late || d.At.Sub(began) != 3*time.Second || d.Call != 1 {
			t.Errorf("the late copy is %+v", d)
		}
		if errs := r.Misuse(); errs != nil {
			t.Errorf("Misuse: %v", errs)
		}
	})
}

// A key-ordered client that is given up before it stored anything leaves no copy of a message that would arrive before an
// earlier one of its key.
func TestLateCopiesKeepTheOrderOfAKey(t *testing.T) {
	for name, tt := range map[string]struct {
		fault PublishFault
		want  []string
	}{
		"the call ended before it stored anything": {PublishFault{Before: time.Hour, Fates: []Fate{{}, {LateCopy: time.Second}, {LateCopy: time.Second}}}, []string{"c"}},
		"the first is not stored":                  {PublishFault{Fates: []Fate{{Err: core.ErrUnavailable}, {LateCopy: time.Second}, {}}}, []string{"c"}},
		"the first arrives late":                   {PublishFault{Fates: []Fate{{Err: core.ErrUncertain, LateCopy: time.Hour}, {LateCopy: time.Second}, {}}}, []string{"c", "a"}},
		"the first is stored":                      {PublishFault{Fates: []Fate{{}, {Err: core.ErrUncertain, LateCopy: time.Second}, {}}}, []string{"a", "c", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Recorder{}
				r.Inject(func(PublishCall) PublishFault { return tt.fault })
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				r.Client(ClientConfig{KeyOrdered: true}).Publish(ctx, []core.Message{keyed("a", "1"), keyed("b", "1"), keyed("c", "2")})
				time.Sleep(2 * time.Hour) // the bubble's clock
				expectStored(t, r, tt.want...)
			})
		})
	}
}

func TestRecorderWithAnEndedContext(t *testing.T) {
	for name, tt := range map[string]struct {
		fault PublishFault
		want  []string
	}{
		"before storing": {PublishFault{Before: time.Second}, nil},
		"after storing":  {PublishFault{After: time.Second}, []string{"a"}},
		"hanging":        {PublishFault{Hang: true, Fates: []Fate{{LateCopy: time.Minute}}}, []string{"a"}},
		"deaf":           {PublishFault{Deaf: true, Before: time.Hour}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Recorder{}
				r.Inject(func(PublishCall) PublishFault { return tt.fault })
				ctx, cancel := context.WithTimeout(t.Context(), time.Second) // the very instant at which Before is over
				defer cancel()
				err := r.Publish(ctx, []core.Message{event("a")})
				if (err == nil) != tt.fault.Deaf {
					t.Errorf("Publish: got %v", err)
				}
				time.Sleep(time.Minute) // the bubble's clock
				expectStored(t, r, tt.want...)
			})
		})
	}
}

func TestRecorderAnswers(t *testing.T) {
	plain := errors.New("plain")
	for name, tt := range map[string]struct {
		fault   PublishFault
		results int
	}{
		"one too many": {PublishFault{Resize: 1}, 2},
		"one too few":  {PublishFault{Resize: -1}, 0},
		"plain error":  {PublishFault{Err: plain}, -1},
	} {
		r := &Recorder{}
		r.Inject(func(PublishCall) PublishFault { return tt.fault })
		err := r.Publish(t.Context(), []core.Message{event("a")})
		var batch *core.BatchError
		switch {
		case errors.As(err, &batch):
			if len(batch.Results) != tt.results {
				t.Errorf("%s: got %d results, want %d", name, len(batch.Results), tt.results)
			}
		case tt.results >= 0 || !errors.Is(err, plain):
			t.Errorf("%s: got %v", name, err)
		}
		expectStored(t, r, "a")
	}
}

func TestRecorderPanics(t *testing.T) {
	r := &Recorder{}
	r.Inject(func(PublishCall) PublishFault {
		return PublishFault{Panic: "adapter", Fates: []Fate{{Err: core.ErrUncertain}}}
	})
	defer func() {
		if got := recover(); got != "adapter" {
			t.Errorf("recovered %v, want the injected panic", got)
		}
		expectStored(t, r)
	}()
	r.Publish(t.Context(), []core.Message{event("a")})
}

func TestRecorderMisuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			do   func(r *Recorder)
			want int
		}{
			"no message":   {func(r *Recorder) { r.Publish(t.Context(), nil) }, 1},
			"a key twice":  {func(r *Recorder) { r.Publish(t.Context(), []core.Message{event("a"), event("b")}) }, 1},
			"no key twice": {func(r *Recorder) { r.Publish(t.Context(), []core.Message{keyed("a", ""), keyed("b", "")}) }, 0},
			"key ordered": {func(r *Recorder) {
				r.Client(ClientConfig{KeyOrdered: true}).Publish(t.Context(), []core.Message{event("a"), event("b")})
			}, 0},
			"at the same time": {func(r *Recorder) { atTheSameTime(t, r, r, r) }, 1},
			"by two clients": {func(r *Recorder) {
				atTheSameTime(t, r, r.Client(ClientConfig{}), r.Client(ClientConfig{}))
			}, 0},
			"memory of a failed call": {func(r *Recorder) {
				r.Inject(func(PublishCall) PublishFault { return PublishFault{Fates: []Fate{{Err: core.ErrUnavailable}}} })
				msgs := []core.Message{event("a")}
				r.Publish(t.Context(), msgs)
				msgs[0] = event("b")
			}, 1},
			"memory of a stored call": {func(r *Recorder) {
				r.Inject(func(PublishCall) PublishFault { return PublishFault{Fates: []Fate{{LateCopy: time.Second}}} })
				msgs := []core.Message{event("a")}
				r.Publish(t.Context(), msgs)
				msgs[0].ID = "b"
				time.Sleep(time.Second) // the bubble's clock
				expectStored(t, r, "a", "a")
			}, 0},
			"term twice": {func(r *Recorder) {
				terms := r.Client(ClientConfig{Terms: true}).(core.TermBroker)
				terms.ForTerm(t.Context(), core.Term{Epoch: 1})
				terms.ForTerm(t.Context(), core.Term{Epoch: 1})
			}, 1},
		} {
			r := &Recorder{}
			tt.do(r)
			if got := r.Misuse(); len(got) != tt.want {
				t.Errorf("%s: Misuse: got %v, want %d", name, got, tt.want)
			}
		}
	})
}

func atTheSameTime(t *testing.T, r *Recorder, first, second core.Broker) {
	r.Inject(func(PublishCall) PublishFault { return PublishFault{Before: time.Second} })
	go first.Publish(t.Context(), []core.Message{event("a")})
	synctest.Wait()
	second.Publish(t.Context(), []core.Message{event("b")})
}

func TestRecorderIsKeyOrdered(t *testing.T) {
	r := &Recorder{}
	r.Inject(func(PublishCall) PublishFault { return PublishFault{Fates: []Fate{{}, {Err: core.ErrUnavailable}}} })
	err := r.Client(ClientConfig{KeyOrdered: true}).Publish(t.Context(),
		[]core.Message{keyed("a1", "a"), keyed("b1", "b"), keyed("a2", "a"), keyed("b2", "b"), keyed("free", "")})
	var batch *core.BatchError
	if !errors.As(err, &batch) || fmt.Sprint(batch.Results) != "[<nil> unavailable <nil> not attempted <nil>]" {
		t.Errorf("Publish: got %v", err)
	}
	expectStored(t, r, "a1", "a2", "free")
}

func TestRecorderFences(t *testing.T) {
	for _, byPublish := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := &Recorder{}
			terms := r.Client(ClientConfig{Terms: true, FenceByPublish: byPublish}).(core.TermBroker)
			term := func(epoch int64) core.Broker {
				b, err := terms.ForTerm(t.Context(), core.Term{Outbox: "o", Epoch: epoch})
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			old := term(1)
			r.Inject(func(PublishCall) PublishFault {
				return PublishFault{Fates: []Fate{{Err: core.ErrUncertain, LateCopy: time.Second}}}
			})
			old.Publish(t.Context(), []core.Message{event("late")})
			r.Inject(nil)
			young := term(2)
			err := old.Publish(t.Context(), []core.Message{event("old")})
			if got := errors.Is(err, core.ErrFenced); got == byPublish {
				t.Errorf("after ForTerm(2), term 1 publishes with %v", err)
			}
			if err := young.Publish(t.Context(), []core.Message{event("young")}); err != nil {
				t.Error(err)
			}
			if err := old.Publish(t.Context(), []core.Message{event("older")}); !errors.Is(err, core.ErrFenced) {
				t.Errorf("after term 2 published, term 1 publishes with %v", err)
			}
			time.Sleep(time.Second) // the bubble's clock
			want := []string{"young"}
			if byPublish {
				want = []string{"old", "young"}
			}
			expectStored(t, r, want...)
		})
	}
}
