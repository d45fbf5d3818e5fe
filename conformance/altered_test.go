package conformance

import (
	"context"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// altered is a session of a Memory that does some things in another way.
type altered struct {
	*memorySession
	fetch       func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error)
	resolve     func(ctx context.Context, s *memorySession, gaps []core.Gap) error
	acknowledge func(ctx context.Context, s *memorySession, refs []core.Ref) error
	fail        func(ctx context.Context, s *memorySession, failures []core.Failure) error
	bury        func(ctx context.Context, s *memorySession, burials []core.Burial) error
	promote     func(ctx context.Context, s *memorySession, epoch int64, limit int) (core.Promotion, error)
	read        func(ctx context.Context, s *memorySession) (core.Lease, error)
	take        func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error)
	renew       func(ctx context.Context, s *memorySession, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error)
	release     func(ctx context.Context, s *memorySession, holder string, epoch int64) error
	listDead    func(ctx context.Context, s *memorySession, f core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error)
	countDead   func(ctx context.Context, s *memorySession, f core.DeadFilter) (int64, error)
	retry       func(ctx context.Context, s *memorySession, f core.DeadFilter, limit int) (int, error)
	drop        func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error)
	unblock     func(ctx context.Context, s *memorySession, topic, key string) (bool, error)
	listBlocked func(ctx context.Context, s *memorySession, topic, key string, limit int) ([]core.BlockedKey, error)
	stats       func(ctx context.Context, s *memorySession) (core.Stats, error)

	suspect       func(ctx context.Context, s *memorySession, holder string, epoch int64, suspect core.Ref) (bool, error)
	pause, resume func(ctx context.Context, s *memorySession, topic string) (bool, error)
	listArchived  func(ctx context.Context, s *memorySession, f core.ArchiveFilter, after core.Ref, limit int) ([]core.ArchivedEvent, error)
	replay        func(ctx context.Context, s *memorySession, f core.ArchiveFilter, after core.Ref, limit int) (int, core.Ref, error)
	purge         func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error)
}

func (a altered) Fetch(ctx context.Context, r core.FetchRequest) (core.FetchResult, error) {
	if a.fetch != nil {
		return a.fetch(ctx, a.memorySession, r)
	}
	return a.memorySession.Fetch(ctx, r)
}

func (a altered) ResolveGaps(ctx context.Context, gaps []core.Gap) error {
	if a.resolve != nil {
		return a.resolve(ctx, a.memorySession, gaps)
	}
	return a.memorySession.ResolveGaps(ctx, gaps)
}

func (a altered) Acknowledge(ctx context.Context, refs []core.Ref) error {
	if a.acknowledge != nil {
		return a.acknowledge(ctx, a.memorySession, refs)
	}
	return a.memorySession.Acknowledge(ctx, refs)
}

func (a altered) Fail(ctx context.Context, failures []core.Failure) error {
	if a.fail != nil {
		return a.fail(ctx, a.memorySession, failures)
	}
	return a.memorySession.Fail(ctx, failures)
}

func (a altered) Bury(ctx context.Context, burials []core.Burial) error {
	if a.bury != nil {
		return a.bury(ctx, a.memorySession, burials)
	}
	return a.memorySession.Bury(ctx, burials)
}

func (a altered) Promote(ctx context.Context, epoch int64, limit int) (core.Promotion, error) {
	if a.promote != nil {
		return a.promote(ctx, a.memorySession, epoch, limit)
	}
	return a.memorySession.Promote(ctx, epoch, limit)
}

func (a altered) ReadLease(ctx context.Context) (core.Lease, error) {
	if a.read != nil {
		return a.read(ctx, a.memorySession)
	}
	return a.memorySession.ReadLease(ctx)
}

func (a altered) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
	if a.take != nil {
		return a.take(ctx, a.memorySession, seen, holder, ttl)
	}
	return a.memorySession.TakeLease(ctx, seen, holder, ttl)
}

func (a altered) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	if a.renew != nil {
		return a.renew(ctx, a.memorySession, holder, epoch, ttl, progress)
	}
	return a.memorySession.RenewLease(ctx, holder, epoch, ttl, progress)
}

func (a altered) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	if a.release != nil {
		return a.release(ctx, a.memorySession, holder, epoch)
	}
	return a.memorySession.ReleaseLease(ctx, holder, epoch)
}

func (a altered) ListDead(ctx context.Context, f core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error) {
	if a.listDead != nil {
		return a.listDead(ctx, a.memorySession, f, after, limit)
	}
	return a.memorySession.ListDead(ctx, f, after, limit)
}

func (a altered) CountDead(ctx context.Context, f core.DeadFilter) (int64, error) {
	if a.countDead != nil {
		return a.countDead(ctx, a.memorySession, f)
	}
	return a.memorySession.CountDead(ctx, f)
}

func (a altered) RetryDead(ctx context.Context, f core.DeadFilter, limit int) (int, error) {
	if a.retry != nil {
		return a.retry(ctx, a.memorySession, f, limit)
	}
	return a.memorySession.RetryDead(ctx, f, limit)
}

func (a altered) DropDead(ctx context.Context, f core.DeadFilter, reason string, limit int) (int, error) {
	if a.drop != nil {
		return a.drop(ctx, a.memorySession, f, reason, limit)
	}
	return a.memorySession.DropDead(ctx, f, reason, limit)
}

func (a altered) Unblock(ctx context.Context, topic, key string) (bool, error) {
	if a.unblock != nil {
		return a.unblock(ctx, a.memorySession, topic, key)
	}
	return a.memorySession.Unblock(ctx, topic, key)
}

func (a altered) ListBlocked(ctx context.Context, topic, key string, limit int) ([]core.BlockedKey, error) {
	if a.listBlocked != nil {
		return a.listBlocked(ctx, a.memorySession, topic, key, limit)
	}
	return a.memorySession.ListBlocked(ctx, topic, key, limit)
}

func (a altered) Stats(ctx context.Context) (core.Stats, error) {
	if a.stats != nil {
		return a.stats(ctx, a.memorySession)
	}
	return a.memorySession.Stats(ctx)
}

func (a altered) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (bool, error) {
	if a.suspect != nil {
		return a.suspect(ctx, a.memorySession, holder, epoch, suspect)
	}
	return a.memorySession.MarkSuspect(ctx, holder, epoch, suspect)
}

func (a altered) PauseTopic(ctx context.Context, topic string) (bool, error) {
	if a.pause != nil {
		return a.pause(ctx, a.memorySession, topic)
	}
	return a.memorySession.PauseTopic(ctx, topic)
}

func (a altered) ResumeTopic(ctx context.Context, topic string) (bool, error) {
	if a.resume != nil {
		return a.resume(ctx, a.memorySession, topic)
	}
	return a.memorySession.ResumeTopic(ctx, topic)
}

func (a altered) ListArchived(ctx context.Context, f core.ArchiveFilter, after core.Ref, limit int) ([]core.ArchivedEvent, error) {
	if a.listArchived != nil {
		return a.listArchived(ctx, a.memorySession, f, after, limit)
	}
	return a.memorySession.ListArchived(ctx, f, after, limit)
}

func (a altered) Replay(ctx context.Context, f core.ArchiveFilter, after core.Ref, limit int) (int, core.Ref, error) {
	if a.replay != nil {
		return a.replay(ctx, a.memorySession, f, after, limit)
	}
	return a.memorySession.Replay(ctx, f, after, limit)
}

func (a altered) Purge(ctx context.Context, olderThan time.Duration, limit int) (int, error) {
	if a.purge != nil {
		return a.purge(ctx, a.memorySession, olderThan, limit)
	}
	return a.memorySession.Purge(ctx, olderThan, limit)
}

// alteredDialect is a Memory whose sessions, or whose writing side, are altered.
type alteredDialect struct {
	*Memory
	session   altered
	enqueue   func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error
	lockKeys  func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error
	retryable func(err error) bool
	listen    func(ctx context.Context, m *Memory, wake func()) error
	notify    func(ctx context.Context, m *Memory, committed <-chan struct{}) error

	receive      func(ctx context.Context, m *Memory, tx core.Execer, consumer, id string) (bool, error)
	forget       func(ctx context.Context, m *Memory, olderThan time.Duration, limit int) (int, error)
	migrateInbox func(ctx context.Context, m *Memory) error
}

func (d alteredDialect) Receive(ctx context.Context, tx core.Execer, consumer, id string) (bool, error) {
	if d.receive != nil {
		return d.receive(ctx, d.Memory, tx, consumer, id)
	}
	return d.Memory.Receive(ctx, tx, consumer, id)
}

func (d alteredDialect) Forget(ctx context.Context, olderThan time.Duration, limit int) (int, error) {
	if d.forget != nil {
		return d.forget(ctx, d.Memory, olderThan, limit)
	}
	return d.Memory.Forget(ctx, olderThan, limit)
}

func (d alteredDialect) MigrateInbox(ctx context.Context) error {
	if d.migrateInbox != nil {
		return d.migrateInbox(ctx, d.Memory)
	}
	return d.Memory.MigrateInbox(ctx)
}

func (d alteredDialect) Open(ctx context.Context) (core.Session, error) {
	s, err := d.Memory.Open(ctx)
	if err != nil {
		return nil, err
	}
	session := d.session
	session.memorySession = s.(*memorySession)
	return session, nil
}

func (d alteredDialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	if d.enqueue != nil {
		return d.enqueue(ctx, d.Memory, tx, msgs)
	}
	return d.Memory.Enqueue(ctx, tx, msgs)
}

func (d alteredDialect) LockKeys(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	if d.lockKeys != nil {
		return d.lockKeys(ctx, d.Memory, tx, msgs)
	}
	return d.Memory.LockKeys(ctx, tx, msgs)
}

func (d alteredDialect) Retryable(err error) bool {
	if d.retryable != nil {
		return d.retryable(err)
	}
	return d.Memory.Retryable(err)
}

func (d alteredDialect) Listen(ctx context.Context, wake func()) error {
	if d.listen != nil {
		return d.listen(ctx, d.Memory, wake)
	}
	return d.Memory.Listen(ctx, wake)
}

func (d alteredDialect) Notify(ctx context.Context, committed <-chan struct{}) error {
	if d.notify != nil {
		return d.notify(ctx, d.Memory, committed)
	}
	return d.Memory.Notify(ctx, committed)
}
