package core_test

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// Whatever of the database fails is told with the step's name.
func TestFailedDatabaseCallsAreTold(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		var mu sync.Mutex
		told := map[string]bool{}
		refused := errors.New("not now")
		b.config.Hooks.DatabaseFailed = func(step string, cause error) {
			mu.Lock()
			defer mu.Unlock()
			if told[step] = true; !errors.Is(cause, refused) {
				b.Errorf("%s failed with %v", step, cause)
			}
		}
		b.enqueue("a1")
		b.put(core.Message{ID: "later", Topic: "t", NotBefore: time.Now().Add(time.Second)})
		failed := map[string]bool{}
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			f.Before = time.Millisecond
			if !failed[c.Op] && c.Op != "Fetch" {
				failed[c.Op] = true
				f.Refuse = refused
			}
			return f
		})
		b.during(func() { time.Sleep(10 * time.Second) }) // the bubble's clock
		want := []string{"promote delayed events", "read the lease", "release the lease", "renew the lease", "settle", "take the lease"}
		if got := slices.Sorted(maps.Keys(told)); !slices.Equal(got, want) {
			b.Errorf("told: got %q, want %q", got, want)
		}
		b.wantLeft("")
	})
}
