package all_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// The inbox is looked for where the options say that it is, and nowhere else.
func TestFindingsOfAnInboxElsewhere(t *testing.T) {
	postgres, schema := servers.WithoutSchema(t, servers.PostgresSchema(t))
	mysql := servers.MySQLURL(t)
	elsewhere := servers.MySQLURL(t)
	at, err := url.Parse(elsewhere)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	for address, schema := range map[string]string{postgres: schema, mysql: at.Path[1:]} {
		options := config.Options{Schema: schema, Prefix: "Shop_"}
		expectFinding(t, inboxExamined(t, address, options), false, "there is no inbox", "lockstep migrate --inbox")
		dialect, err := all.Registry().OpenDialect(config.NewURL(address), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dialect.Close() })
		if err := dialect.(core.InboxStore).MigrateInbox(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found := inboxExamined(t, address, options); len(found) > 0 {
			t.Errorf("an empty inbox: got %+v", found)
		}
		expectFinding(t, inboxExamined(t, address, config.Options{Schema: schema}), false, "there is no inbox", "prefix")
		expectFinding(t, inboxExamined(t, address, config.Options{Prefix: "Shop_"}), false, "there is no inbox", "schema")
	}
	// Effects that are acknowledged and then lost are not repeated.
	options := config.Options{Schema: schema, Prefix: "Shop_"}
	expectFinding(t, inboxExamined(t, with(t, postgres, "synchronous_commit", "off"), options), false, "effects whose messages are acknowledged", "set synchronous_commit=on")
}

func inboxExamined(t *testing.T, address string, options config.Options) []config.Finding {
	t.Helper()
	dialect, err := all.Registry().OpenDialect(config.NewURL(address), options)
	if err != nil {
		t.Fatal(err)
	}
	defer dialect.Close()
	found, err := dialect.(config.InboxExaminer).ExamineInbox(t.Context(), time.Hour)
	if err != nil {
		t.Errorf("some was not found out: %v", err)
	}
	return found
}
