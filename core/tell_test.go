package core_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// Whoever reads the relay's log sees why nothing is delivered: at once, and once a minute for each topic, however many
// messages wait.
func TestTheLogSaysWhyNothingIsDelivered(t *testing.T) {
	for name, class := range map[string]error{"unavailable": core.ErrUnavailable, "refused": core.ErrPermanent} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				var log bytes.Buffer
				b.config.Logger = slog.New(slog.NewTextHandler(&log, nil))
				for i := range 100 {
					b.put(core.Message{ID: fmt.Sprint(i), Topic: "missing", Key: fmt.Sprint(i)})
				}
				b.put(core.Message{ID: "other", Topic: "other"})
				b.fate = func(m core.Message) error { return fmt.Errorf("%w: no such topic: %s", class, m.Topic) }
				b.runWith(b.relay(), func() {
					time.Sleep(30 * time.Second) // the bubble's clock
					b.put(core.Message{ID: "late", Topic: "missing", Key: "late"})
					time.Sleep(10 * time.Second) // the bubble's clock
				})
				for _, topic := range []string{"missing", "other"} {
					if n := strings.Count(log.String(), "no such topic: "+topic); n != 1 {
						b.Errorf("in the first minute %d lines say why %s waits, want 1:\n%s", n, topic, log.String())
					}
				}
			})
		})
	}
}
