package conformance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// engineMutants are engines that are broken by a change of their source, and the check of pairs that must find it. The
// simulation in core has more of them; these show that it can be seen from outside as well, with no more than a dialect and
// a broker.
var engineMutants = []struct {
	name, caught, says string
	file, old, new     string
}{
	{"acknowledges before the broker's answer", "pair-relay-killed", "never arrived", "publishing.go",
		"	e.calls = append(e.calls, c)\n",
		"	e.calls = append(e.calls, c)\n	e.settle.acks = append(e.settle.acks, items...)\n"},
	{"counts an outage", "pair-broker-outage", "attempts were counted", "publishing.go",
		"		case v == refused, v == uncertain && e.witnessed(c, it):\n",
		"		case v == refused, v == unavailable, v == uncertain && e.witnessed(c, it):\n"},
	{"blocks keys in its memory only", "pair-dead-letter", "not within", "settle.go",
		"		if err := w.session.Bury(ctx, s.burials); err != nil {\n",
		"		for i := range s.burials {\n			s.burials[i].Skip = true\n		}\n		if err := w.session.Bury(ctx, s.burials); err != nil {\n"},
	{"does not look at the generation", "pair-dead-retry", "not within", "fetching.go",
		"	changed := r.known && result.Generation != r.generation\n",
		"	changed := false\n"},
	{"stops without a last acknowledgement", "pair-graceful-stop", "were sent twice", "engine.go",
		"	if len(e.calls) > 0 || e.settling || !e.settle.empty() {\n		return false\n	}\n	if e.draining {\n",
		"	if e.draining && len(e.calls) == 0 {\n		return true\n	}\n	if len(e.calls) > 0 || e.settling || !e.settle.empty() {\n		return false\n	}\n	if e.draining {\n"},
}

func TestBrokenEnginesAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds and runs every broken engine, which takes a quarter of a minute")
	}
	for _, m := range engineMutants {
		t.Run(strings.ReplaceAll(m.name, " ", "-")+"/"+m.caught, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join("..", "core", m.file))
			if err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), m.old); n != 1 {
				t.Fatalf("%s has the text to change %d times, want once: bring the mutant up to date", m.file, n)
			}
			changed, overlay := filepath.Join(t.TempDir(), m.file), filepath.Join(t.TempDir(), "overlay.json")
			text, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(overlay, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-count=1", "-vet=off",
				"-run", "^TestPairsInBubbles$/^"+m.caught+"$", ".").CombinedOutput()
			said := string(out)
			if err == nil || !strings.Contains(said, m.says) {
				t.Errorf("of an engine that %s, %s says %v, want %q\n%s", m.name, m.caught, err, m.says, said)
			}
			if strings.Contains(said, "nothing better than the end") {
				t.Errorf("an engine that %s is caught by a time-out and nothing better\n%s", m.name, said)
			}
		})
	}
}
