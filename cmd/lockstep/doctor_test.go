package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
)

// lostAfterCheck is a fake: a database that goes away between two questions.
type lostAfterCheck struct{ config.Dialect }

func (lostAfterCheck) Open(context.Context) (core.Session, error) {
	return nil, errors.New("the connection is lost")
}

func TestDoctorOnADatabaseThatGoesAway(t *testing.T) {
	t.Parallel()
	dialect, err := all.Registry().OpenDialect(config.NewURL("sqlite:"+filepath.Join(t.TempDir(), "shop.db")), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dialect.Close()
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := &examined{}
	e.database(t.Context(), &config.Outbox{Dialect: lostAfterCheck{dialect}})
	if len(e.Findings) != 1 || e.Findings[0].Warning || !strings.Contains(e.Findings[0].Problem, "the outbox cannot be read: ") {
		t.Errorf("got %+v, want one problem: that the outbox cannot be read", e.Findings)
	}
}
