package core_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutant is an engine that is broken in one way, by a change of its source. The simulation has to notice.
type mutant struct {
	name string
	file string // below the repository's root
	old  string // stands there exactly once
	new  string
}

var mutants = []mutant{
	{"acknowledge before the broker's answer", "core/publishing.go",
		"	e.calls = append(e.calls, c)\n",
		"	e.calls = append(e.calls, c)\n	e.settle.acks = append(e.settle.acks, items...)\n"},
	{"forget a gap by age", "core/fetching.go",
		"	dead := 0\n",
		"	dead := 0\n	for i := range gaps {\n		gaps[i].Dead = true\n	}\n"},
	{"gaps and tail in two statements", "core/fetching.go",
		"		result, err := session.Fetch(ctx, request)\n", `		gapsOnly, tailOnly := request, request
		gapsOnly.After, tailOnly.Gaps = 1<<62, nil
		result, err := session.Fetch(ctx, gapsOnly)
		if err == nil {
			earlier := result.Records
			result, err = session.Fetch(ctx, tailOnly)
			result.Records = append(earlier, result.Records...)
		}
`},
	{"hold lifted by its timer", "core/fetching.go",
		"		target = min(target, from)\n		return true\n",
		"		return true\n"},
	{"paged rewind beside the tail", "core/reader.go",
		"	r.cursor = last\n",
		"	r.cursor = last\n	if r.rewinding() {\n		r.cursor = r.rewindEnd\n	}\n"},
	{"blocked keys in memory only", "core/settle.go",
		"		if err := w.session.Bury(ctx, s.burials); err != nil {\n",
		"		for i := range s.burials {\n			s.burials[i].Skip = true\n		}\n		if err := w.session.Bury(ctx, s.burials); err != nil {\n"},
	{"retry without generation", "core/fetching.go",
		"	changed := r.known && result.Generation != r.generation\n",
		"	changed := false\n"},
	{"acknowledge by position alone", "conformance/memory_table.go",
		" || t.rows[i].message.ID != ref.ID {",
		" {"},
	{"position leaves the flight too early", "core/reader.go",
		"	if r.fetching {\n		r.leaving",
		"	if false {\n		r.leaving"},
	{"plain error counted as an attempt", "core/call.go",
		"		unknown = fmt.Errorf(\"%w: %w\", ErrUncertain, err)\n",
		"		unknown = err\n"},
	{"outage counted", "core/publishing.go",
		"		case v == refused, v == uncertain && e.witnessed(c, it):\n",
		"		case v == refused, v == unavailable, v == uncertain && e.witnessed(c, it):\n"},
	{"relay paused by one topic", "core/publishing.go",
		"	if e.draining || e.resetting {\n		return\n	}\n	e.startLonely(now)\n",
		"	if e.draining || e.resetting {\n		return\n	}\n	e.startLonely(now)\n	if len(e.topics) > 0 {\n		return\n	}\n"},
	{"two publishes of one key in flight", "core/lane.go",
		"	case q.listed || q.flying > 0:\n",
		"	case q.listed:\n"},
	{"publish after lease loss", "core/lease.go",
		"	t.until = sent.Add(ttl - ttl/leaseMargin)\n	t.wall = t.clock(sent).Add(ttl - ttl/leaseMargin)\n",
		"	t.until = sent.Add(10 * ttl)\n	t.wall = t.clock(sent).Add(10 * ttl)\n"},
	{"buffer reused after a time-out", "core/publishing.go",
		"	msgs := make([]Message, len(items)) // not",
		"	spare, _ := spares.LoadOrStore(l, make([]Message, 10_000))\n	msgs := spare.([]Message)[:len(items)] // not"},
	{"graceful stop without final acknowledge", "core/engine.go",
		"	if len(e.calls) > 0 || e.settling || !e.settle.empty() {\n		return false\n	}\n	if e.draining {\n",
		"	if e.draining && len(e.calls) == 0 {\n		return true\n	}\n	if len(e.calls) > 0 || e.settling || !e.settle.empty() {\n		return false\n	}\n	if e.draining {\n"},
	{"a burial that did nothing taken for one", "core/publishing.go",
		"	h.passOver(it.record.Position)\n	failure, burial := e.config.refusal(&it.record, cause, permanent, e.random)\n",
		"	failure, burial := e.config.refusal(&it.record, cause, permanent, e.random)\n	if burial == nil {\n		h.passOver(it.record.Position)\n	}\n"},
	{"another topic's success taken for evidence of life", "core/publishing.go",
		"			e.alive[it.key.topic] = max(e.alive[it.key.topic], c.number)\n",
		"			e.alive[\"t0\"] = max(e.alive[\"t0\"], c.number)\n			e.alive[\"t1\"] = e.alive[\"t0\"]\n"},
	{"a success during the call taken for evidence of life", "core/publishing.go",
		" && c.alive > before\n",
		" && e.alive[it.key.topic] > before\n"},
	{"never careful", "core/relay.go",
		"	if t.unclean >= uncleanLimit || ",
		"	if "},
	{"published before it is marked", "core/suspects.go",
		"		e.settle.mark = &want\n",
		"		e.settle.mark = &want\n		if start != nil {\n			start()\n		}\n"},
	{"a mark left when the call has returned", "core/suspects.go",
		"	var want Ref\n",
		"	want := c.marked\n"},
	{"a scout is any message", "core/topichold.go",
		"!t.seen[key] && e.keys[key] == nil",
		"e.keys[key] == nil"},
	{"what waits behind a message that was not sent stays", "core/publishing.go",
		"range it.lane.drop(it.key) { // where",
		"range it.lane.drop(orderKey{}) { // where"},
	{"what waits behind what a held topic keeps back stays", "core/publishing.go",
		"range it.lane.drop(it.key) { // of a topic",
		"range it.lane.drop(orderKey{}) { // of a topic"},
	{"a small message tried again before a large one", "core/publishing.go",
		" || it.queue != nil && it.queue.passed:\n",
		":\n"},
	{"never asks a silent broker", "core/ping.go",
		"	if p.pinger == nil || e.draining || e.resetting {\n",
		"	if p.pinger != nil || e.draining || e.resetting {\n"},
	{"cuts the calls of a broker that was never away", "core/ping.go",
		"	if !p.away {\n		return\n	}\n	if e.lastStored",
		"	if !p.away && p.stored.After(p.asked) {\n		return\n	}\n	if e.lastStored"},
	{"a mark counted for nobody", "core/suspects.go",
		"	if !slices.Contains(r.survived, t.suspect) {",
		"	if slices.Contains(r.survived, t.suspect) {"},
}

// Each broken engine is caught within 10 000 schedules.
func TestSimulationCatchesBrokenEngines(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds and runs every broken engine, which takes half a minute")
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			out, err := m.run(t)
			if err == nil {
				t.Fatalf("10 000 schedules did not notice")
			}
			if found := regexp.MustCompile(`schedule (\d+) of.*`).FindStringSubmatch(out); found != nil {
				t.Logf("result: caught by %s", found[0])
				return
			}
			t.Fatalf("it did not fail by a schedule: %v\n%.2000s", err, out)
		})
	}
}

// run runs the simulation over the changed source.
func (m mutant) run(t *testing.T) (string, error) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has the text to change %d times, want once: bring the mutant up to date", m.file, n)
	}
	changed := filepath.Join(t.TempDir(), "changed.go")
	text := strings.Replace(string(source), m.old, m.new, 1)
	if strings.Contains(m.new, "spares.") {
		text = strings.Replace(text, "import (\n", "import (\n	\"sync\"\n", 1) + "\nvar spares sync.Map\n"
	}
	if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlayFile, "-run", "^TestSimulation$", "-count=1", ".")
	cmd.Env = append(os.Environ(), "LOCKSTEP_SIM_SCHEDULES=10000", "GOGC=400")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
