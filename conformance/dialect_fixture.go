package conformance

import (
	"context"
	"errors"
	"fmt"
)

// checkDialectFixture looks at the fixture. All other checks believe what it says.
func checkDialectFixture(ctx context.Context, f DialectFixture) error {
	if needs := f.lacks(); needs != "" {
		return fmt.Errorf("it lacks %s", needs)
	}
	tx, err := f.Begin(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("DialectFixture.Begin: %w", err)
	case tx == nil:
		return errors.New("DialectFixture.Begin returned neither a transaction nor an error")
	}
	if err := tx.Rollback(); err != nil {
		return fmt.Errorf("roll back a transaction of DialectFixture.Begin: %w", err)
	}
	records, err := f.all(ctx)
	if err != nil {
		return fmt.Errorf("fetch from DialectFixture.Dialect, which has to be migrated: %w", err)
	}
	if len(records) > 0 {
		return fmt.Errorf("the outbox holds %s before anything was enqueued: it has to be empty, and the check's own", list(ids(records)))
	}
	return nil
}

// lacks names the fields that no fixture may be without, and that are missing.
func (f DialectFixture) lacks() string {
	return fields(field("DialectFixture.Dialect", f.Dialect == nil), field("DialectFixture.Begin", f.Begin == nil))
}

// checkPairFixture looks at both.
func checkPairFixture(ctx context.Context, p pair) error {
	if needs := p.lacks(); needs != "" {
		return fmt.Errorf("it lacks %s", needs)
	}
	return errors.Join(checkDialectFixture(ctx, p.DialectFixture), p.broker.empty(ctx))
}

func (p pair) lacks() string {
	return fields(p.DialectFixture.lacks(), p.broker.lacksAddress(),
		field("BrokerFixture.Read (or Stored)", p.broker.Read == nil && p.broker.Stored == nil))
}
