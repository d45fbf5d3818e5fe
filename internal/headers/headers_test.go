package headers_test

import (
	"maps"
	"testing"

	"github.com/lockstep-go/lockstep/internal/headers"
)

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	for _, h := range []map[string]string{
		nil,
		{"a": "b"},
		{"quote\"": "back\\slash", "html": "<&>", "unicode": "é漢\U0001F600", "empty": "", "line": "a\nb\u2028"},
	} {
		s, err := headers.Encode(h)
		if err != nil {
			t.Fatal(err)
		}
		got, err := headers.Decode([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, h) {
			t.Errorf("got %q, want %q", got, h)
		}
	}
}

func TestValuesThatAreNotStringsKeepTheirJSON(t *testing.T) {
	got, err := headers.Decode([]byte(`{"n": 1.50, "o": {"x":[1]}, "b": true, "z": null, "s": "1"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"n": "1.50", "o": `{"x":[1]}`, "b": "true", "z": "", "s": "1"}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDecodeRefusesWhatIsNotAnObject(t *testing.T) {
	for _, bad := range []string{"", "[]", `"s"`, "{"} {
		if h, err := headers.Decode([]byte(bad)); err == nil {
			t.Errorf("Decode(%q): got %q, want an error", bad, h)
		}
	}
}
