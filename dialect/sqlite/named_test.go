package sqlite_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// However many events an acknowledgement names, it removes, and keeps in the archive, those whose position and ID it names.
func TestAnAcknowledgementRemovesWhatItNames(t *testing.T) {
	for _, n := range []int{1, 7, 50, 51, 149, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{Archive: []string{"kept"}})
			var msgs []core.Message
			var refs []core.Ref
			var left, kept []string
			for i := range n {
				m := core.Message{ID: fmt.Sprintf("%03d", i), Topic: []string{"kept", "dropped"}[i%2]}
				ref := core.Ref{Position: int64(i + 1), ID: m.ID}
				switch {
				case i%10 == 3: // its position was another event's, before a restore
					ref.ID = "another"
					left = append(left, m.ID)
				case i%10 == 6: // not named
					left = append(left, m.ID)
					msgs = append(msgs, m)
					continue
				case m.Topic == "kept":
					kept = append(kept, m.ID)
				}
				msgs, refs = append(msgs, m), append(refs, ref)
			}
			enqueued(t, d, msgs...)
			s, err := d.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Acknowledge(t.Context(), refs); err != nil {
				t.Fatal(err)
			}
			if got := query(t, d.DB(), `SELECT id FROM outbox ORDER BY id`); !slices.Equal(got, left) {
				t.Errorf("left: got %q, want %q", got, left)
			}
			if got := query(t, d.DB(), `SELECT id FROM outbox_archive ORDER BY id`); !slices.Equal(got, kept) {
				t.Errorf("archived: got %q, want %q", got, kept)
			}
		})
	}
}
