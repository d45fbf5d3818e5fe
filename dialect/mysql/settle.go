package mysql

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/errtext"
)

// How many records go into one packet and one transaction: ids and causes of the greatest length take less than 1 MiB.
const (
	maxRefs   = 1000
	maxCauses = 100
)

func compare(a, b int64) int { return cmp.Compare(a, b) }

// ascending returns values in the order of their positions, without changing the argument: relays which overlap wait for
// each other instead of deadlocking.
func ascending[T any](values []T, position func(T) int64) []T {
	byPosition := func(a, b T) int { return compare(position(a), position(b)) }
	if slices.IsSortedFunc(values, byPosition) {
		return values
	}
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, byPosition)
	return sorted
}

// Acknowledge implements [core.Writer].
func (s *session) Acknowledge(ctx context.Context, refs []core.Ref) error {
	refs = ascending(refs, func(r core.Ref) int64 { return r.Position })
	for chunk := range slices.Chunk(refs, maxRefs) {
		which := s.these("{outbox}", "o", chunk)
		var err error
		if keep := s.intoArchive(which); keep != "" {
			err = s.write(ctx, keep+`; DELETE o FROM `+which, "1", new(int))
		} else {
			err = s.change(ctx, `DELETE o FROM `+which)
		}
		if err != nil {
			return fmt.Errorf("delete events: %w", err)
		}
	}
	return nil
}

// still is the condition for a record that nobody has counted an attempt of since.
func still(ref core.Ref, attempts int) string {
	return ` WHERE position = ` + integer(ref.Position) + ` AND id = ` + text(ref.ID) + ` AND attempts = ` + integer(attempts-1)
}

// Fail implements [core.Writer].
func (s *session) Fail(ctx context.Context, failures []core.Failure) error {
	failures = ascending(failures, func(f core.Failure) int64 { return f.Position })
	for chunk := range slices.Chunk(failures, maxCauses) {
		statements := make([]string, len(chunk))
		for i, f := range chunk {
			statements[i] = s.sql(`UPDATE {outbox} SET attempts = `) + integer(f.Attempts) + `, retry_at = ` + later(f.RetryIn) +
				`, last_error = ` + text(errtext.Clean(f.Cause)) + still(f.Ref, f.Attempts)
		}
		if err := s.write(ctx, strings.Join(statements, "; "), "1", new(int)); err != nil {
			return fmt.Errorf("note failures: %w", err)
		}
	}
	return nil
}

// Bury implements [core.Writer].
func (s *session) Bury(ctx context.Context, burials []core.Burial) error {
	burials = ascending(burials, func(b core.Burial) int64 { return b.Position })
	for chunk := range slices.Chunk(burials, maxCauses) {
		var statements []string
		for _, b := range chunk {
			statements = append(statements, s.bury(b)...)
		}
		if err := s.write(ctx, strings.Join(statements, "; "), "1", new(int)); err != nil {
			return fmt.Errorf("bury events: %w", err)
		}
	}
	return nil
}

// bury ends with the delete, so that a second call finds nothing to do. A dead letter of the same name can only come from a
// restore: the newer one takes its place.
func (s *session) bury(b core.Burial) []string {
	which := still(b.Ref, b.Attempts)
	statements := []string{
		s.sql("REPLACE INTO {dead} (position, id, topic, `key`, headers, payload, created_at, attempts, cause)\n"+
			"SELECT position, id, topic, `key`, headers, payload, created_at, ") + integer(b.Attempts) + `, ` +
			text(errtext.Clean(b.Cause)) + s.sql(` FROM {outbox}`) + which + ` FOR UPDATE`,
	}
	if !b.Skip {
		statements = append(statements, s.sql("INSERT IGNORE INTO {blocked} (topic, `key`, position)\nSELECT topic, `key`, position FROM {outbox}")+
			which+" AND `key` <> ''")
	}
	return append(statements, s.sql(`DELETE FROM {outbox}`)+which)
}
