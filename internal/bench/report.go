package bench

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
)

// Report is what a run measured.
type Report struct {
	Machine  Machine   `json:"machine"`
	Settings Settings  `json:"settings"`
	Sections []Section `json:"sections"`
}

// Machine is where it was measured.
type Machine struct {
	CPUs         int    `json:"cpus"`
	Processor    string `json:"processor,omitempty"`
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Go           string `json:"go"`
}

// Settings are those of the run.
type Settings struct {
	Events       int     `json:"events"`
	Keys         int     `json:"keys"`
	PayloadBytes int     `json:"payload_bytes"`
	Rounds       int     `json:"rounds"`
	Seconds      float64 `json:"seconds"`
}

// Section is a table of the report.
type Section struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Rows are the things that were measured, and Ratios what the section is about.
	Rows   []Row   `json:"rows"`
	Ratios []Ratio `json:"ratios,omitempty"`
	// Faults say which trials count for nothing, and why.
	Faults []string `json:"faults,omitempty"`
}

// Row is one way of doing one thing.
type Row struct {
	Database string `json:"database,omitempty"`
	Broker   string `json:"broker,omitempty"`
	Way      string `json:"way"`
	// Values are the measures, by name; [Measures] has their order and their units.
	Values map[string]Stat `json:"values"`
	// Delivery is what a consumer found, over all rounds, where there was something to consume.
	Delivery *Delivery `json:"delivery,omitempty"`
}

// Stat is a measure over the rounds.
type Stat struct {
	Median float64   `json:"median"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	Rounds []float64 `json:"rounds"`
}

// Ratio compares two rows by one measure, round by round.
type Ratio struct {
	Name string `json:"name"`
	Stat
	// Target is what it should be at least, or at most; 0 where nothing was promised.
	AtLeast float64 `json:"at_least,omitempty"`
	AtMost  float64 `json:"at_most,omitempty"`
	// Void says why the target does not apply, if it does not.
	Void string `json:"void,omitempty"`
}

// Met reports whether a ratio is where it should be.
func (r Ratio) Met() bool {
	return (r.AtLeast == 0 || r.Median >= r.AtLeast) && (r.AtMost == 0 || r.Median <= r.AtMost)
}

// Measures are the names of values in the order of a table's columns.
var Measures = []string{
	"events/s", "tx/s", "round trips/s", "relay µs/event", "database µs/event", "broker µs/event",
	"p50 ms", "p99 ms", "max ms", "relay % of a core", "relay peak MiB",
}

// statOf makes a Stat of one value for each round.
func statOf(rounds []float64) Stat {
	sorted := slices.Sorted(slices.Values(rounds))
	n := len(sorted)
	if n == 0 {
		return Stat{}
	}
	return Stat{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Low: sorted[0], High: sorted[n-1], Rounds: rounds}
}

// ratio compares the rounds of two stats.
func ratio(name string, of, to Stat) Ratio {
	var rounds []float64
	for i := range min(len(of.Rounds), len(to.Rounds)) {
		if to.Rounds[i] != 0 {
			rounds = append(rounds, of.Rounds[i]/to.Rounds[i])
		}
	}
	return Ratio{Name: name, Stat: statOf(rounds)}
}

// find returns the row of a way, or nil.
func (s *Section) find(database, broker, way string) *Row {
	i := slices.IndexFunc(s.Rows, func(r Row) bool { return r.Database == database && r.Broker == broker && r.Way == way })
	if i < 0 {
		return nil
	}
	return &s.Rows[i]
}

// add adds one round's values to a row.
func (s *Section) add(database, broker, way string, values map[string]float64, found *Delivery) {
	row := s.find(database, broker, way)
	if row == nil {
		s.Rows = append(s.Rows, Row{Database: database, Broker: broker, Way: way, Values: map[string]Stat{}})
		row = &s.Rows[len(s.Rows)-1]
	}
	for name, value := range values {
		row.Values[name] = statOf(append(row.Values[name].Rounds, value))
	}
	if found != nil {
		if row.Delivery == nil {
			row.Delivery = &Delivery{}
		}
		row.Delivery.add(*found)
	}
}

func (d *Delivery) add(other Delivery) {
	d.Events += other.Events
	d.Duplicates += other.Duplicates
	d.Missing += other.Missing
	d.Overtaken += other.Overtaken
	d.Example = cmp.Or(d.Example, other.Example)
}

// compare adds the ratio of two rows' measure, where both are there.
func (s *Section) compare(database, broker, of, to, measure string, target func(*Ratio)) {
	a, b := s.find(database, broker, of), s.find(database, broker, to)
	if a == nil || b == nil {
		return
	}
	where := database
	if broker != "" {
		where += " → " + broker
	}
	r := ratio(where+": "+of+" / "+to, a.Values[measure], b.Values[measure])
	if len(r.Rounds) == 0 {
		return
	}
	if target != nil {
		target(&r)
	}
	s.Ratios = append(s.Ratios, r)
}

func atLeast(x float64) func(*Ratio) { return func(r *Ratio) { r.AtLeast = x } }

// values are an outcome's measures.
func (o outcome) values() map[string]float64 {
	v := map[string]float64{"events/s": float64(o.Events) / o.Seconds}
	perEvent := func(name string, seconds float64) {
		if seconds >= 0 {
			v[name] = math.Round(seconds/float64(max(1, o.Events))*1e8) / 100
		}
	}
	perEvent("relay µs/event", o.CPU)
	perEvent("database µs/event", o.DatabaseCPU)
	perEvent("broker µs/event", o.BrokerCPU)
	if o.PeakBytes > 0 {
		v["relay peak MiB"] = float64(o.PeakBytes>>10) / 1024
	}
	return v
}

func machine() Machine {
	return Machine{CPUs: runtime.NumCPU(), Processor: processor(), OS: runtime.GOOS, Architecture: runtime.GOARCH, Go: runtime.Version()}
}

// Check returns an error where a trial lost an event, or broke the order of a key.
func (r *Report) Check() error {
	var errs []error
	for _, s := range r.Sections {
		for _, fault := range s.Faults {
			errs = append(errs, fmt.Errorf("%s: %s", s.Name, fault))
		}
	}
	return errors.Join(errs...)
}
