package main

import (
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestItPrintsWhatItsREADMESays(t *testing.T) {
	docs.Prints(t, "-database", servers.PostgresSchema(t))
}
