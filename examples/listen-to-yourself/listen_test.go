package main

import (
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
)

func TestItPrintsWhatItsREADMESays(t *testing.T) { docs.Prints(t) }
