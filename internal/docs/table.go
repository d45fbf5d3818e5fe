package docs

import (
	"os"
	"strings"
	"testing"
)

// table is docs/table.md as a dialect's tests find it.
const table = "../../docs/table.md"

// TableSQL returns what docs/table.md shows in SQL below a heading, block by block, and the code in that section's text.
func TableSQL(t testing.TB, heading string) (blocks, spans []string) {
	t.Helper()
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	page, err := Parse(table, section)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range page.Blocks {
		if b.Language == "sql" {
			blocks = append(blocks, b.Text)
		}
	}
	for _, s := range page.Spans {
		spans = append(spans, s.Text)
	}
	if len(blocks) == 0 {
		t.Fatalf("docs/table.md shows no SQL below %q", heading)
	}
	return blocks, spans
}
