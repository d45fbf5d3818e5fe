package matrix

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
)

// readmeVariable names the environment variable that holds the path of a file into which the table is written.
const readmeVariable = "LOCKSTEP_MATRIX_README"

// The table stands between these lines.
const (
	tableBegins = "<!-- matrix: written by `make matrix` -->\n"
	tableEnds   = "<!-- /matrix -->\n"
)

// cell is a combination.
type cell struct{ database, broker string }

// table is what came of each combination, as Markdown.
func table(rows, columns []string, results map[cell]conformance.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row)
		for _, column := range columns {
			r, ok := results[cell{row, column}]
			if !ok {
				b.WriteString(" not run |")
				continue
			}
			fmt.Fprintf(&b, " %s |", result(r))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// result is a report in a few words.
func result(r conformance.Report) string {
	proven := 0
	for _, p := range r.Promises {
		if p.Status == conformance.Proven {
			proven++
		}
	}
	text := fmt.Sprintf("%d of %d promises, %d checks", proven, len(r.Promises), r.Count(conformance.Passed))
	if n := r.Count(conformance.Failed); n > 0 {
		text += fmt.Sprintf(", **%d failed**", n)
	}
	if n := r.Count(conformance.NotExercised); n > 0 {
		text += fmt.Sprintf(", %d not exercised", n)
	}
	return text
}

// withTable returns text with table in the place of the one that is there.
func withTable(text, table string) (string, error) {
	before, rest, ok := strings.Cut(text, tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !ok || !ends {
		return "", fmt.Errorf("there is no place for the table: want the lines %q and %q", tableBegins, tableEnds)
	}
	return before + tableBegins + "\n" + table + "\n" + tableEnds + after, nil
}

func writeTable(t *testing.T, path, table string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := withTable(string(text), table)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTable(t *testing.T) {
	check := func(status conformance.Status) conformance.CheckResult {
		return conformance.CheckResult{Status: status}
	}
	good := conformance.Report{
		Checks:   []conformance.CheckResult{check(conformance.Passed), check(conformance.Passed), check(conformance.NotExercised)},
		Promises: []conformance.PromiseResult{{Status: conformance.Proven}, {Status: conformance.NotExercised}},
	}
	bad := conformance.Report{Checks: []conformance.CheckResult{check(conformance.Failed)}, Promises: []conformance.PromiseResult{{Status: conformance.Failed}}}
	got := table([]string{"A", "B"}, []string{"X", "Y"}, map[cell]conformance.Report{{"A", "X"}: good, {"A", "Y"}: bad, {"B", "Y"}: good})
	want := `| | X | Y |
|---|---|---|
| A | 1 of 2 promises, 2 checks, 1 not exercised | 0 of 1 promises, 0 checks, **1 failed** |
| B | not run | 1 of 2 promises, 2 checks, 1 not exercised |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text, err := withTable("before\n"+tableBegins+"old\n"+tableEnds+"after\n", got)
	if err != nil || text != "before\n"+tableBegins+"\n"+want+"\n"+tableEnds+"after\n" {
		t.Errorf("got %v and\n%s", err, text)
	}
	if _, err := withTable("nowhere", got); err == nil {
		t.Error("a text without a place for it got the table")
	}
}
