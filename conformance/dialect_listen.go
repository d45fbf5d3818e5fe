package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var listenChecks = []check[DialectFixture]{
	{"listen-begins", "Listen calls wake once it listens", checkListenBegins},
	{"listen-commit", "Listen calls wake after a commit of events in another process that it learns of", checkListenCommit},
	{"listen-ends", "Listen returns when its context is done", checkListenEnds},
}

var notifyChecks = []check[DialectFixture]{
	{"notify-repeats", "Notify announces after each receive from committed, not after the first alone", checkNotifyRepeats},
	{"notify-ends", "Notify returns when its context is done, whether something was committed or not", checkNotifyEnds},
}

// elsewhere is the dialect of another process.
func (f DialectFixture) elsewhere() core.Dialect {
	if f.Elsewhere != nil {
		return f.Elsewhere
	}
	return f.Dialect
}

// waiting is a Listen call, or a Notify call, under way.
type waiting struct {
	stop func()
	woke chan struct{}
	done chan struct{} // closed when the call has returned
	err  error         // what it returned
}

// waitFor runs call.
func waitFor(ctx context.Context, call func(ctx context.Context, woke chan struct{}) error) *waiting {
	ctx, stop := context.WithCancel(ctx)
	w := &waiting{stop: stop, woke: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = call(ctx, w.woke)
	}()
	return w
}

func (f DialectFixture) listen(ctx context.Context) *waiting {
	return waitFor(ctx, func(ctx context.Context, woke chan struct{}) error {
		listener, _ := core.Ability[core.Listener](f.Dialect)
		return listener.Listen(ctx, func() {
			select {
			case woke <- struct{}{}:
			default:
			}
		})
	})
}

// notify runs the Notify call of another process, where there is one to run.
func (f DialectFixture) notify(ctx context.Context) (w *waiting, committed chan<- struct{}) {
	c := make(chan struct{}, 1)
	return waitFor(ctx, func(ctx context.Context, _ chan struct{}) error {
		if notifier, ok := core.Ability[core.Notifier](f.elsewhere()); ok {
			return notifier.Notify(ctx, c)
		}
		return nil
	}), c
}

// end ends the call, and expects that it returns.
func (w *waiting) end(what string) error {
	w.stop()
	select {
	case <-w.done: // with which error is its own affair
		return nil
	case <-time.After(waitLimit):
		return fmt.Errorf("%s did not return within %v of its context's end", what, waitLimit)
	}
}

// awake waits for a wake-up.
func (w *waiting) awake(what string) error {
	select {
	case <-w.woke:
		return nil
	case <-w.done:
		return fmt.Errorf("%s: Listen returned (%v)", what, w.err)
	case <-time.After(waitLimit):
		return fmt.Errorf("%s: no wake-up within %v", what, waitLimit)
	}
}

func checkListenBegins(ctx context.Context, f DialectFixture) error {
	l := f.listen(ctx)
	return firstError(l.awake("when it began to listen"), l.end("Listen"))
}

// heard commits, announces, and waits for the wake-up, several times.
func (f DialectFixture) heard(ctx context.Context, times int) error {
	l := f.listen(ctx)
	n, committed := f.notify(ctx)
	err := l.awake("when it began to listen")
	for i := 0; i < times && err == nil; i++ {
		id := fmt.Sprintf("event %d", i+1)
		if err = f.commit(ctx, event(id)); err != nil {
			break
		}
		select {
		case committed <- struct{}{}:
		default:
		}
		err = l.awake("after the commit of " + id)
	}
	return firstError(err, l.end("Listen"), n.end("Notify"))
}

func checkListenCommit(ctx context.Context, f DialectFixture) error { return f.heard(ctx, 1) }

func checkNotifyRepeats(ctx context.Context, f DialectFixture) error { return f.heard(ctx, 5) }

func checkListenEnds(ctx context.Context, f DialectFixture) error {
	l := f.listen(ctx)
	if err := firstError(l.awake("when it began to listen"), l.end("Listen")); err != nil {
		return err
	}
	ended, end := context.WithCancel(ctx)
	end()
	return f.listen(ended).end("Listen, called when its context was done,")
}

func checkNotifyEnds(ctx context.Context, f DialectFixture) error {
	idle, _ := f.notify(ctx)
	if err := idle.end("Notify, without a commit,"); err != nil {
		return err
	}
	used, committed := f.notify(ctx)
	committed <- struct{}{}
	return used.end("Notify, after a commit,")
}
