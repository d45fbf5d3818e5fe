package mysql

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

// codeDuplicate takes back the statement and leaves its transaction as it was.
const codeDuplicate = 1062

// Receive implements [core.InboxStore]. What was received before is an error of the server's: how many rows a statement
// that ignores or updates duplicates has changed depends on the connection's settings (clientFoundRows), and one that
// ignores them ignores other faults as well.
func (d *Dialect) Receive(ctx context.Context, tx core.Execer, consumer, id string) (first bool, err error) {
	_, err = tx.ExecContext(ctx, d.names.Replace(`INSERT INTO {inbox} (consumer, id) VALUES (`+asText+`,`+asText+`)`), []byte(consumer), []byte(id))
	switch {
	case code(err) == codeDuplicate:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("insert into the inbox: %w", d.explainInbox(err))
	}
	return true, nil
}

// Forget implements [core.InboxStore].
func (d *Dialect) Forget(ctx context.Context, olderThan time.Duration, limit int) (n int, err error) {
	err = d.brief(ctx, func(s *session) error {
		return s.write(ctx, s.sql(`DELETE FROM {inbox} WHERE received_at <= `)+later(-olderThan)+` ORDER BY received_at LIMIT `+integer(limit)+
			`; SET @n = ROW_COUNT()`, "@n", &n)
	})
	if err != nil {
		return 0, fmt.Errorf("forget what was received: %w", d.explainInbox(err))
	}
	return n, nil
}

// MigrateInbox implements [core.InboxStore]. Where the table is there it needs no privilege to create.
func (d *Dialect) MigrateInbox(ctx context.Context) error {
	err := d.brief(ctx, func(s *session) error {
		if err := s.server.faults(); err != nil {
			return err
		}
		exists := false
		err := s.readRow(ctx, `SELECT COUNT(*) > 0 FROM information_schema.tables WHERE table_schema = `+text(d.database)+
			` AND table_name = `+text(d.prefix+"inbox"), &exists)
		if err == nil && !exists {
			err = s.read(ctx, d.InboxSchema(), nil)
		}
		if err != nil {
			return err
		}
		return s.read(ctx, s.sql(`SELECT consumer, id, received_at FROM {inbox} LIMIT 0`), nil)
	})
	if err != nil {
		return fmt.Errorf("migrate the inbox: %w", d.explainInbox(err))
	}
	return nil
}

// InboxSchema returns the statement with which [Dialect.MigrateInbox] creates the inbox's table. A consumer's user needs
// SELECT and INSERT on it, and one that forgets DELETE.
func (d *Dialect) InboxSchema() string {
	return strings.ReplaceAll(d.names.Replace(inboxSchema), "{options}", tableOptions)
}

// brief runs use with a session, of which nothing is asked about an outbox.
func (d *Dialect) brief(ctx context.Context, use func(s *session) error) error {
	s, err := d.connect(ctx)
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Close())
}

// explainInbox says of the inbox what explained says of the outbox.
func (d *Dialect) explainInbox(err error) error {
	inbox := d.names.Replace("{inbox}")
	setup := &core.SetupError{Err: err}
	switch code(err) {
	case codeNoTable:
		setup.Problem = "there is no inbox " + inbox
		setup.Cure = "run MigrateInbox (`lockstep migrate --inbox`) first, with the same database and prefix"
	case codeUnknownColumn:
		setup.Problem = "the table " + inbox + " is not an inbox"
		setup.Cure = "give the dialect a Prefix or a Database of its own"
	case codeTableDenied, codeColumnDenied:
		setup.Problem = "the user lacks a privilege on the inbox (" + serverSays(err) + ")"
		setup.Cure = "GRANT SELECT, INSERT ON " + inbox + " to the consumer's user, and DELETE to one that purges"
	default:
		return explained(err)
	}
	return setup
}
