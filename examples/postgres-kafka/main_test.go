package main

import (
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// In a full dose several times on the same database and topic, as somebody does who tries it, changes something, and tries
// again.
func TestItPrintsWhatItsREADMESays(t *testing.T) {
	database, topic := servers.PostgresSchema(t), servers.KafkaTopic(t, 3)
	for range dose.Of(t, 1, 3) {
		docs.Prints(t, "-database", database, "-kafka", servers.Kafka(t), "-topic", topic)
	}
}
