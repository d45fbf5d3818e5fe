package errtext_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lockstep-go/lockstep/internal/errtext"
)

func TestClean(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"plain é漢", "plain é漢"},
		{"a\x00b", "a\uFFFDb"},
		{"a\xffb", "a\uFFFDb"},
	} {
		if got := errtext.Clean(tt.in); got != tt.want {
			t.Errorf("Clean(%q): got %q, want %q", tt.in, got, tt.want)
		}
	}
	for _, long := range []string{strings.Repeat("x", 5000), "x" + strings.Repeat("漢", 5000)} {
		if got := errtext.Clean(long); len(got) > 4096 || len(got) < 4090 || !utf8.ValidString(got) {
			t.Errorf("Clean of %d bytes: got %d bytes, valid %v; want at most 4096, valid", len(long), len(got), utf8.ValidString(got))
		}
	}
}
