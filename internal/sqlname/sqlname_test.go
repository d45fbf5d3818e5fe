package sqlname_test

import (
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/internal/sqlname"
)

func TestCheck(t *testing.T) {
	for _, good := range []string{"", "a", "_x", "Shop_2", strings.Repeat("a", 40)} {
		if err := sqlname.Check("Prefix", good); err != nil {
			t.Errorf("Check(%q): got %v, want nil", good, err)
		}
	}
	for _, bad := range []string{"2a", "a-b", `a"b`, "a`b", "a b", "a.b", "a;DROP TABLE x", "é", "a\x00", strings.Repeat("a", 41)} {
		err := sqlname.Check("Prefix", bad)
		if err == nil || !strings.Contains(err.Error(), "Prefix") {
			t.Errorf("Check(%q): got %v, want an error that names the field", bad, err)
		}
	}
}
