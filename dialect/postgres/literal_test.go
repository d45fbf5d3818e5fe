package postgres

import (
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

// TestReferencesAreWrittenAsTheLibraryWritesThem holds the short way of acknowledgements against the driver's own notation.
func TestReferencesAreWrittenAsTheLibraryWritesThem(t *testing.T) {
	t.Parallel()
	plain := core.Ref{Position: 1, ID: core.NewID()}
	for _, id := range []string{"a-b_c.d:9", "", " ", `"`, `\`, `'`, `''`, `\'`, "{", "}", ",", "NULL", "é", "\n", "$1", "a;b"} {
		refs := []core.Ref{plain, {Position: -7, ID: id}, plain, {Position: 1 << 62, ID: id}}
		want := texts(refs, func(r core.Ref) string { return integer(r.Position) + " " + r.ID })
		if got := places(refs); got != want {
			t.Errorf("id %q: got %s, want %s", id, got, want)
		}
	}
	if got, want := places(nil), texts(nil, func(string) string { return "" }); got != want {
		t.Errorf("without references: got %s, want %s", got, want)
	}
	if got, want := integers([]int{1, -2, 1 << 62}, func(i int) int64 { return int64(i) }), `'{1,-2,4611686018427387904}'::bigint[]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
