package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// promoteTimeout bounds the transaction on the server, because whoever takes the lease over waits for its lock.
const promoteTimeout = 800 * time.Millisecond

// promote is one statement. FOR UPDATE waits for a takeover that is on its way, and then finds its epoch. Positions are
// handed out in the order of the sorted rows. now() is when the transaction began, and lets the index be used.
const promote = `WITH owner AS MATERIALIZED (
  SELECT one FROM {lease} WHERE epoch = {epoch} FOR UPDATE
), due AS MATERIALIZED (
  SELECT position FROM {delayed} WHERE not_before <= now() AND EXISTS (SELECT FROM owner)
  ORDER BY not_before, position LIMIT {limit}
), gone AS (
  DELETE FROM {delayed} WHERE position = ANY (ARRAY(SELECT position FROM due))
  RETURNING position, id, topic, key, headers, payload, not_before
), moved AS (
  INSERT INTO {outbox} (id, topic, key, headers, payload, created_at)
  SELECT id, topic, key, headers, payload, not_before FROM gone ORDER BY not_before, position
  RETURNING position
), bumped AS (
  UPDATE {control} SET generation = generation + 1 WHERE EXISTS (SELECT FROM moved)
)
SELECT EXISTS (SELECT FROM owner), (SELECT count(*) FROM moved)`

// Promote implements [core.Writer]. It moves fewer events where those that are due take too long.
func (s *session) Promote(ctx context.Context, epoch int64, limit int) (core.Promotion, error) {
	begun := time.Now()
	p, err := s.promote(ctx, epoch, s.dialect.promotions.Of(limit))
	s.dialect.promotions.Took(p.Moved, time.Since(begun), promoteTimeout, err)
	if err != nil {
		return core.Promotion{}, fmt.Errorf("promote delayed events: %w", err)
	}
	return p, nil
}

func (s *session) promote(ctx context.Context, epoch int64, limit int) (p core.Promotion, err error) {
	statement := strings.NewReplacer("{epoch}", integer(epoch), "{limit}", integer(limit)).Replace(promote)
	var owned bool
	err = s.queryRow(ctx, timeouts(promoteTimeout)+planByPosition+s.sql(statement), &owned, &p.Moved)
	p.Fenced = !owned
	return p, err
}
