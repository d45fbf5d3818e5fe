package cloudevents_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/cloudevents"
)

func TestAttributes(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 123_456_000, time.FixedZone("", 3600))
	for _, tt := range []struct {
		name string
		m    core.Message
		want []cloudevents.Attribute
	}{
		{"all", core.Message{
			ID: "i", Topic: "orders", Key: "k", EnqueuedAt: at,
			Headers: map[string]string{"event-type": "order.paid", "content-type": "text/plain", "other": "o"},
		}, []cloudevents.Attribute{
			{"specversion", "1.0"}, {"id", "i"}, {"source", "/shop"}, {"type", "order.paid"},
			{"subject", "k"}, {"partitionkey", "k"}, {"time", "2026-11-21T09:00:00.123456Z"},
		}},
		{"the least", core.Message{ID: "i", Topic: "orders"}, []cloudevents.Attribute{
			{"specversion", "1.0"}, {"id", "i"}, {"source", "/shop"}, {"type", "orders"},
		}},
	} {
		if got := cloudevents.Attributes(&tt.m, "/shop"); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestValidateSource(t *testing.T) {
	for _, good := range []string{"/shop/orders", "https://example.com/shop?a=b#c", "urn:uuid:6e8bc430", "shop", "/a%20b"} {
		if err := cloudevents.ValidateSource(good); err != nil {
			t.Errorf("%q: got %v, want nil", good, err)
		}
	}
	for _, bad := range []string{"", "a b", "/é", "http://[::1", "%zz", "a\nb", "<a>", "1a:b", ":"} {
		if err := cloudevents.ValidateSource(bad); err == nil {
			t.Errorf("%q: got nil, want an error", bad)
		}
	}
}

func TestConflict(t *testing.T) {
	for name, conflict := range map[string]bool{"ce_id": true, "CE_Type": true, "ce_": true, "ce": false, "price_ce_": false} {
		err := cloudevents.Conflict(&core.Message{Headers: map[string]string{name: "v"}}, "ce_")
		if (err != nil) != conflict || conflict && !strings.Contains(err.Error(), name) {
			t.Errorf("%q: got %v, want conflict %t", name, err, conflict)
		}
	}
}
