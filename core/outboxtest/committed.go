package outboxtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-go/lockstep/core"
)

// The size of the pages in which Committed reads.
const (
	pageRecords = 1000
	pageBytes   = 16 << 20
)

// Committed returns what a relay would find in dialect's outbox now, in its order: the events of the transactions that
// committed, and of no others. No relay may run meanwhile, since it removes what it delivers. Events that are not due yet,
// or whose key is blocked, are not among them.
func Committed(ctx context.Context, dialect core.Dialect) (msgs []core.Message, err error) {
	session, err := dialect.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("read committed events: %w", err)
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	request := core.FetchRequest{Limit: pageRecords, MaxBytes: pageBytes}
	for {
		page, err := session.Fetch(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("read committed events: %w", err)
		}
		for _, r := range page.Records {
			msgs = append(msgs, r.Message)
			request.After = r.Position
		}
		if !page.More || len(page.Records) == 0 {
			return msgs, nil
		}
	}
}
