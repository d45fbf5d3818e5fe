package ormtest

import (
	"cmp"
	"context"
	"database/sql"
	"testing"

	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// On PostgreSQL alone: GORM's SQLite drivers need a C compiler, or register the name of the driver that ours uses.
func TestGORM(t *testing.T) {
	for name, config := range map[string]gorm.Config{
		"plain":               {},
		"prepared statements": {PrepareStmt: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPostgres(t)
			db := openGORM(t, s.db, config)
			s.testPlace(t, func(ctx context.Context, id string, end error) error {
				return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					if err := tx.Create(&Order{ID: id}).Error; err != nil {
						return err
					}
					return cmp.Or(s.outbox.Enqueue(ctx, tx.Statement.ConnPool, event(id)), end)
				})
			})
		})
	}
	t.Run("pool", func(t *testing.T) {
		s := newPostgres(t)
		db := openGORM(t, s.db, gorm.Config{})
		s.expectPoolRefused(t, db.Statement.ConnPool)
	})
	t.Run("InTx", func(t *testing.T) {
		s := newPostgres(t)
		db := openGORM(t, s.db, gorm.Config{})
		s.testInTx(t, func(ctx context.Context, tx *sql.Tx, id string) error {
			session := db.Session(&gorm.Session{NewDB: true, Context: ctx})
			session.Statement.ConnPool = tx
			return session.Create(&Order{ID: id}).Error
		})
	})
}

// A nested Transaction is a savepoint.
func TestGORMSavepoint(t *testing.T) {
	s := newPostgres(t)
	db := openGORM(t, s.db, gorm.Config{})
	err := db.Transaction(func(outer *gorm.DB) error {
		for _, id := range []string{"kept", "undone"} {
			end := map[string]error{"undone": errUndo}[id]
			err := outer.Transaction(func(tx *gorm.DB) error {
				if err := tx.Create(&Order{ID: id}).Error; err != nil {
					return err
				}
				return cmp.Or(s.outbox.Enqueue(t.Context(), tx.Statement.ConnPool, event(id)), end)
			})
			if err != end { //nolint:errorlint // Transaction returns the function's error as it is
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.expectKept(t)
}

func openGORM(t *testing.T, db *sql.DB, config gorm.Config) *gorm.DB {
	t.Helper()
	g, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: db}), &config)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
