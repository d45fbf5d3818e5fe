package bench_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/internal/bench"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestMain(m *testing.M) {
	if bench.IsChild() {
		os.Exit(bench.RunChild())
	}
	goleak.VerifyTestMain(m)
}

// TestEverySectionMeasuresWhatItSays runs all of it, small. How fast anything was is nobody's business here.
func TestEverySectionMeasuresWhatItSays(t *testing.T) {
	config := bench.Config{
		Servers: map[string]string{
			bench.Postgres: servers.Postgres(t), bench.Kafka: servers.Kafka(t), bench.SQLite: t.TempDir(),
		},
		Events: dose.Of(t, 2000, 100_000), Keys: 50, Rounds: dose.Of(t, 1, 3), For: dose.Of(t, 200*time.Millisecond, 5*time.Second),
		Rates: []int{200}, Backlogs: []int{500, 1000}, ProfileDir: filepath.Join(t.TempDir(), "profiles"),
		Progress: func(line string) { t.Log(line) },
	}
	report, err := bench.Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Check(); err != nil {
		t.Error(err)
	}
	if profiles, err := filepath.Glob(filepath.Join(config.ProfileDir, "*.cpu.pprof")); err != nil || len(profiles) == 0 {
		t.Errorf("got no profile: %v, %v", profiles, err)
	}
	var encoded bytes.Buffer
	if err := json.NewEncoder(&encoded).Encode(report); err != nil {
		t.Fatal(err)
	}
	var read bench.Report
	if err := json.Unmarshal(encoded.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Sections) != len(bench.Sections) {
		t.Fatalf("got %d sections, want %d", len(read.Sections), len(bench.Sections))
	}
	for i, s := range read.Sections {
		if s.Name != bench.Sections[i] {
			t.Errorf("section %d is %q, want %q", i, s.Name, bench.Sections[i])
		}
		checkRows(t, config, s)
	}
	checkDrain(t, config, read.Sections[0])
	checkPictures(t, report)
}

// checkRows looks for values that were not measured, and for events that nobody counted.
func checkRows(t *testing.T, config bench.Config, s bench.Section) {
	t.Helper()
	if len(s.Rows) == 0 {
		t.Errorf("%s has no rows", s.Name)
	}
	for _, row := range s.Rows {
		where := s.Name + ": " + row.Database + " " + row.Broker + " " + row.Way
		for name, v := range row.Values {
			if len(v.Rounds) != config.Rounds || v.Low > v.Median || v.Median > v.High {
				t.Errorf("%s: %s is %+v, want a median of %d rounds", where, name, v, config.Rounds)
			}
			if name == "events/s" && v.Low <= 0 || name == "tx/s" && v.Low <= 0 || name == "round trips/s" && v.Low <= 0 {
				t.Errorf("%s: %s is %+v, want more than 0", where, name, v)
			}
		}
		if len(row.Values) == 0 {
			t.Errorf("%s: nothing was measured", where)
		}
	}
}

// checkDrain holds what arrived against what was enqueued, which each way has its own part of.
func checkDrain(t *testing.T, config bench.Config, s bench.Section) {
	t.Helper()
	want := map[string]int{"bare": config.Events, "lockstep": config.Events, "batched": config.Events / 2, "textbook": config.Events / 50}
	seen := map[string]int{}
	for _, row := range s.Rows {
		seen[row.Way]++
		d := row.Delivery
		if events, delivers := want[row.Way]; !delivers && d != nil || delivers && (d == nil || d.Events != events*config.Rounds || d.Duplicates != 0) {
			t.Errorf("%s %s %s: delivered %+v, want %d events, each once", row.Database, row.Broker, row.Way, d, events*config.Rounds)
		}
	}
	for way := range want {
		if seen[way] != 2 {
			t.Errorf("there are %d rows of %q, want one for each database", seen[way], way)
		}
	}
}

// checkPictures reads the plot as XML, and looks for each row in the table.
func checkPictures(t *testing.T, report *bench.Report) {
	t.Helper()
	var table strings.Builder
	if err := report.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Log(table.String())
	for _, s := range report.Sections {
		for _, row := range s.Rows {
			if !strings.Contains(table.String(), row.Way) {
				t.Errorf("the table has no row of %q", row.Way)
			}
		}
	}
	picture := report.SVG()
	decoder := xml.NewDecoder(bytes.NewReader(picture))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
	for _, want := range []string{"postgres → kafka", "sqlite → kafka", "textbook"} {
		if !bytes.Contains(picture, []byte(want)) {
			t.Errorf("the plot does not show %q", want)
		}
	}
}

func TestConfigNamesEveryProblem(t *testing.T) {
	t.Parallel()
	err := bench.Config{
		Events: 5, Keys: -1, PayloadBytes: 3, Rounds: -2, For: time.Microsecond, Only: []string{"all"}, Rates: []int{0},
		Databases: []string{"oracle"}, Brokers: []string{bench.Kafka},
	}.Validate()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		"Events is 5", "Keys is -1", "PayloadBytes is 3", "Rounds is -2", "For is 1µs", `Only has the entry "all"`,
		"the entry 0", `"oracle"`, "Brokers names kafka, and nothing says where it is",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not say %q", err, want)
		}
	}
}

func TestNothingRunsWithoutABroker(t *testing.T) {
	t.Parallel()
	_, err := bench.Run(t.Context(), bench.Config{Servers: map[string]string{bench.SQLite: t.TempDir()}, Only: []string{bench.Drain}})
	if err == nil || !strings.Contains(err.Error(), "there is no broker") {
		t.Errorf("got %v, want that there is no broker", err)
	}
}
