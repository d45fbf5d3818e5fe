package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var _ core.InboxStore = (*Dialect)(nil)

//go:embed inbox.sql
var inboxSchema string

// receive names the key, so that a table without it is an error and not an inbox that forgets. It waits for the other
// transaction that inserted the same; above READ COMMITTED that one's commit is then a serialisation failure.
const receive = `INSERT INTO {inbox} (consumer, id) VALUES ($1, $2) ON CONFLICT (consumer, id) DO NOTHING`

// Receive implements [core.InboxStore].
func (d *Dialect) Receive(ctx context.Context, tx core.Execer, consumer, id string) (first bool, err error) {
	result, err := tx.ExecContext(ctx, d.names.Replace(receive), consumer, id)
	if err != nil {
		return false, fmt.Errorf("insert into the inbox: %w", d.explainInbox(err))
	}
	if result == nil {
		return false, core.ErrNoResult
	}
	inserted, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("insert into the inbox: %w", err)
	}
	return inserted == 1, nil
}

// Several that forget at once take different rows, and none waits.
const forget = planByAge + `WITH old AS MATERIALIZED (
  SELECT ctid AS place FROM {inbox} WHERE received_at <= now() - {age} ORDER BY received_at LIMIT {limit} FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM {inbox} WHERE ctid = ANY (ARRAY(SELECT place FROM old)) RETURNING 1
)
SELECT count(*) FROM gone`

// Forget implements [core.InboxStore].
func (d *Dialect) Forget(ctx context.Context, olderThan time.Duration, limit int) (n int, err error) {
	err = d.brief(ctx, func(s *session) error {
		statement := strings.NewReplacer("{age}", interval(olderThan), "{limit}", integer(limit)).Replace(s.sql(forget))
		return s.queryRow(ctx, statement, &n)
	})
	if err != nil {
		return 0, fmt.Errorf("forget what was received: %w", d.explainInbox(err))
	}
	return n, nil
}

// MigrateInbox implements [core.InboxStore]. Where the table is there it takes no lock and needs no privilege to create.
func (d *Dialect) MigrateInbox(ctx context.Context) error {
	err := d.brief(ctx, func(s *session) error {
		if err := s.checkServer(ctx); err != nil {
			return err
		}
		exists := false
		query := `SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(` + text(s.sql("{inbox}")) + `))`
		if err := s.queryRow(ctx, query, &exists); err != nil {
			return err
		}
		if !exists {
			err := s.exec(ctx, `SELECT pg_advisory_xact_lock(`+integer(migrateLock)+`); SET LOCAL lock_timeout = '`+lockPatience+`'; `+d.InboxSchema())
			if err != nil {
				return s.explain(err)
			}
		}
		return s.exec(ctx, s.sql(`SELECT consumer, id, received_at FROM {inbox} LIMIT 0`))
	})
	if err != nil {
		return fmt.Errorf("migrate the inbox: %w", d.explainInbox(err))
	}
	return nil
}

// InboxSchema returns the statements with which [Dialect.MigrateInbox] creates the inbox's table. A consumer's role needs
// SELECT and INSERT on it, and one that forgets SELECT, UPDATE and DELETE.
func (d *Dialect) InboxSchema() string { return d.names.Replace(inboxSchema) }

// brief runs use with a session, of which nothing is asked about an outbox.
func (d *Dialect) brief(ctx context.Context, use func(s *session) error) error {
	s, err := d.connect(ctx)
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Close())
}

// explainInbox makes a SetupError of what an operator can act on, whatever driver it comes from.
func (d *Dialect) explainInbox(err error) error {
	var coded interface{ SQLState() string }
	var already *core.SetupError
	if !errors.As(err, &coded) || errors.As(err, &already) {
		return err
	}
	inbox := d.names.Replace("{inbox}")
	setup := &core.SetupError{Err: err}
	switch coded.SQLState() {
	case "42P01":
		setup.Problem = "there is no inbox " + inbox
		setup.Cure = "run MigrateInbox (`lockstep migrate --inbox`) first, with the same Schema, Prefix and search_path"
	case "42703", "42P10":
		setup.Problem = "the table " + inbox + " is not an inbox"
		setup.Cure = "give the dialect a Prefix or a Schema of its own"
	case "42501":
		setup.Problem = "the role lacks a privilege on the inbox " + inbox
		setup.Cure = "GRANT SELECT, INSERT ON " + inbox + " to the consumer's role, and UPDATE, DELETE to one that purges"
	default:
		return err
	}
	return setup
}
