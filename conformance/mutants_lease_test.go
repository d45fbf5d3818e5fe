package conformance

import (
	"context"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// promoting alters a promotion: what it is called with, and what it leaves behind.
func promoting(before func(m *Memory, epoch *int64, limit *int), after func(m *Memory, generation int64, p *core.Promotion)) alteredDialect {
	return alteredDialect{session: altered{promote: func(ctx context.Context, s *memorySession, epoch int64, limit int) (core.Promotion, error) {
		m := s.memory
		generation := m.generation
		if before != nil {
			before(m, &epoch, &limit)
		}
		p, err := s.Promote(ctx, epoch, limit)
		if after != nil {
			after(m, generation, &p)
		}
		return p, err
	}}}
}

var promoteMutants = map[string]mutant{
	"promotes early": {promoting(
		func(m *Memory, _ *int64, _ *int) { m.SetClock(2 * time.Hour) },
		func(m *Memory, _ int64, _ *core.Promotion) { m.SetClock(0) }),
		caught{"promote-due": "Promote with limit 10 returned {Moved:2 Fenced:false}, want 1 moved"}},
	"promotes a little early": {promoting(
		func(m *Memory, _ *int64, _ *int) { m.SetClock(100 * time.Millisecond) },
		func(m *Memory, _ int64, _ *core.Promotion) { m.SetClock(0) }), caught{"promote-due": "an event that is due at"}},
	"promotes without limit": {promoting(func(_ *Memory, _ *int64, limit *int) { *limit = 1000 }, nil),
		caught{"promote-order": "Promote with limit 2 returned {Moved:5 Fenced:false}, want 2 moved"}},
	"promotes in enqueue order": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		for i := range msgs {
			if !msgs[i].NotBefore.IsZero() {
				msgs[i].NotBefore = time.Unix(0, 0)
			}
		}
		return m.Enqueue(ctx, tx, msgs)
	}}, caught{"promote-order": `the outbox holds ["there before" "3rd" "1st"], want ["there before" "1st" "2nd"]`}},
	"promotes for anybody": {promoting(func(m *Memory, epoch *int64, _ *int) { *epoch = m.lease.epoch }, nil),
		caught{"promote-fenced": "under the lease of epoch 2, Promote with epoch 1 returned {Moved:1 Fenced:false}, want Fenced"}},
	"promotes for a newer one": {promoting(func(m *Memory, epoch *int64, _ *int) { *epoch = min(*epoch, m.lease.epoch) }, nil),
		caught{"promote-fenced": "under the lease of epoch 2, Promote with epoch 3 returned {Moved:1 Fenced:false}, want Fenced"}},
	"does not say Fenced": {promoting(nil, func(_ *Memory, _ int64, p *core.Promotion) { p.Fenced = false }),
		caught{"promote-fenced": "under the lease of epoch 2, Promote with epoch 1 returned {Moved:0 Fenced:false}, want Fenced"}},
	"promotes in secret": {promoting(nil, func(m *Memory, generation int64, _ *core.Promotion) { m.locked(func() { m.generation = generation }) }),
		caught{
			"promote-generation": "after a promotion the generation still is 0",
			"fetch-generation":   "a record was fetched: false, and in the same one later"},
	},
	"keeps the time of enqueueing": {promoting(nil, func(m *Memory, _ int64, _ *core.Promotion) { m.outbox.rows[0].created = time.Now() }),
		caught{"promote-time": "an event that was due at"}},
	"promotes without the payload": {promoting(nil, func(m *Memory, _ int64, _ *core.Promotion) { m.outbox.rows[0].message.Payload = nil }),
		caught{"promote-complete": `the promoted message is {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s é漢😀 'single' "double"`}},
}

// leasing alters the lease row after each change by a session.
func leasing(after func(before memoryLease, l *memoryLease)) alteredDialect {
	return alteredDialect{session: altered{
		take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
			before := s.memory.lease
			taken, err := s.TakeLease(ctx, seen, holder, ttl)
			after(before, &s.memory.lease)
			return taken, err
		},
		renew: func(ctx context.Context, s *memorySession, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
			before := s.memory.lease
			renewed, err := s.RenewLease(ctx, holder, epoch, ttl, progress)
			after(before, &s.memory.lease)
			return renewed, err
		},
	}}
}

// stealing alters what a taker has seen.
func stealing(change func(seen *core.Lease, now core.Lease)) alteredDialect {
	return alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		change(&seen, s.memory.Contents().Lease)
		return s.TakeLease(ctx, seen, holder, ttl)
	}}}
}

// renewingFor alters for how long a renewal is.
func renewingFor(change func(ttl time.Duration) time.Duration) alteredDialect {
	return alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
		return s.RenewLease(ctx, holder, epoch, change(ttl), progress)
	}}}
}

// suspecting alters what a suspect is marked with; where change reports false, nothing is marked.
func suspecting(change func(m *Memory, holder *string, epoch *int64, suspect *core.Ref) bool) alteredDialect {
	return alteredDialect{session: altered{suspect: func(ctx context.Context, s *memorySession, holder string, epoch int64, suspect core.Ref) (bool, error) {
		if !change(s.memory, &holder, &epoch, &suspect) {
			return true, nil
		}
		return s.MarkSuspect(ctx, holder, epoch, suspect)
	}}}
}

var leaseMutants = map[string]mutant{
	"names each outbox anew": {alteredDialect{session: altered{read: func(ctx context.Context, s *memorySession) (core.Lease, error) {
		lease, err := s.ReadLease(ctx)
		lease.Outbox = core.NewID()
		return lease, err
	}}}, caught{"lease-new": "and then, untouched,", "lease-take": "taker 0 changed the outbox"}},
	"is not expired at first": {alteredDialect{session: altered{read: func(ctx context.Context, s *memorySession) (core.Lease, error) {
		lease, err := s.ReadLease(ctx)
		lease.Expired = false
		return lease, err
	}}},
		caught{
			"lease-new":     "a lease that was never taken is",
			"lease-release": `want the holder "", the epoch 1 and expired true`,
			"lease-expires": "a lease that was taken and whose time is over is not expired: not within 20s"},
	},
	"keeps the epoch": {leasing(func(before memoryLease, l *memoryLease) { l.epoch = before.epoch }),
		caught{"lease-take": `want the holder "a", the epoch 1 and expired false`}},
	"has no renewals": {leasing(func(_ memoryLease, l *memoryLease) { l.renewals = 0 }),
		caught{"lease-renew": "after a renewal Renewals is 0, as it was before", "lease-take-seen": "TakeLease of the lease"}},
	"never expires": {leasing(func(_ memoryLease, l *memoryLease) { l.expires = l.expires.Add(time.Hour) }),
		caught{"lease-expires": "a lease that was taken and whose time is over is not expired: not within 20s"}},
	"leases for no time": {leasing(func(_ memoryLease, l *memoryLease) { l.expires = time.Time{} }),
		caught{
			"lease-take":  `want the holder "a", the epoch 1 and expired false`,
			"lease-renew": `want the holder "owner", the epoch 1 and expired false`},
	},
	"lets anybody take": {stealing(func(seen *core.Lease, now core.Lease) { *seen = now }),
		caught{"lease-take-seen": "TakeLease of the lease", "lease-take-once": "two took the lease"}},
	"takes by holder": {stealing(func(seen *core.Lease, now core.Lease) { seen.Epoch, seen.Renewals = now.Epoch, now.Renewals }),
		caught{"lease-take-seen": "TakeLease of the lease"}},
	"takes by epoch": {stealing(func(seen *core.Lease, now core.Lease) { seen.Holder, seen.Renewals = now.Holder, now.Renewals }),
		caught{"lease-take-seen": "TakeLease of the lease"}},
	"takes without renewals": {stealing(func(seen *core.Lease, now core.Lease) { seen.Renewals = now.Renewals }),
		caught{"lease-take-seen": "TakeLease of the lease"}},
	"takes its own whatever came between": {alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		if now := s.memory.Contents().Lease; now.Holder == holder && seen.Holder == holder {
			seen = now
		}
		return s.TakeLease(ctx, seen, holder, ttl)
	}}}, caught{"lease-take-seen": "TakeLease of the lease"}},
	"takes what is free whatever was seen": {stealing(func(seen *core.Lease, now core.Lease) {
		if now.Expired {
			*seen = now
		}
	}), caught{"lease-take-seen": "TakeLease of the lease"}},
	"begins no term for the same holder": {leasing(func(before memoryLease, l *memoryLease) {
		if before.holder == l.holder {
			l.epoch = before.epoch
		}
	}), caught{"lease-take": `want the holder "it's é", the epoch 3 and expired false`}},
	"takes for half the time": {alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		return s.TakeLease(ctx, seen, holder, ttl/2)
	}}}, caught{"lease-expires": "a lease that was taken for 150ms is expired after 75ms"}},
	"renews for half the time": {renewingFor(func(ttl time.Duration) time.Duration { return ttl / 2 }),
		caught{"lease-expires": "a lease that was renewed for 150ms is expired after 75ms"}},
	"renews for a millisecond": {renewingFor(func(time.Duration) time.Duration { return time.Millisecond }),
		caught{"lease-expires": "a lease that was renewed for 150ms is expired after 5ms"}},
	"takes expired ones only": {alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		if !s.memory.Contents().Lease.Expired {
			return false, nil
		}
		return s.TakeLease(ctx, seen, holder, ttl)
	}}}, caught{"lease-take": "TakeLease of an unchanged lease reported false"}},
	"compares and takes apart": {alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		now := s.memory.Contents().Lease
		if now.Epoch != seen.Epoch || now.Holder != seen.Holder || now.Renewals != seen.Renewals {
			return false, nil
		}
		time.Sleep(time.Millisecond) // the window of the race that this is about
		return s.TakeLease(ctx, s.memory.Contents().Lease, holder, ttl)
	}}}, caught{"lease-take-once": "two took the lease"}},
	"renews for anybody": {alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, _ string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
		return s.RenewLease(ctx, s.memory.Contents().Lease.Holder, epoch, ttl, progress)
	}}}, caught{"lease-renew": "RenewLease by another holder reported true"}},
	"renews in any epoch": {alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, holder string, _ int64, ttl time.Duration, progress bool) (bool, error) {
		return s.RenewLease(ctx, holder, s.memory.Contents().Lease.Epoch, ttl, progress)
	}}}, caught{"lease-renew": "RenewLease in an earlier epoch reported true"}},
	"never was unclean": {leasing(func(_ memoryLease, l *memoryLease) { l.unclean = 0 }),
		caught{"lease-unclean": "step 2: after it was taken from an owner Unclean is 0, want 1"}},
	"counts each takeover": {leasing(func(before memoryLease, l *memoryLease) { l.unclean = before.unclean + int(l.epoch-before.epoch) }),
		caught{"lease-unclean": "step 1: after it was taken for the first time Unclean is 1, want 0"}},
	"forgets what it counted": {leasing(func(before memoryLease, l *memoryLease) { l.unclean = min(l.unclean, 1) }),
		caught{"lease-unclean": "step 3: after it was taken from an owner again Unclean is 1, want 2"}},
	"takes each renewal for progress": {alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, holder string, epoch int64, ttl time.Duration, _ bool) (bool, error) {
		return s.RenewLease(ctx, holder, epoch, ttl, true)
	}}}, caught{"lease-unclean": "step 4: after a renewal that tells of no progress Unclean is 0, want 2"}},
	"knows no progress": {alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, holder string, epoch int64, ttl time.Duration, _ bool) (bool, error) {
		return s.RenewLease(ctx, holder, epoch, ttl, false)
	}}}, caught{"lease-unclean": "step 6: after a renewal that tells of progress Unclean is 2, want 0"}},
	"releases and stays unclean": {alteredDialect{session: altered{release: func(ctx context.Context, s *memorySession, holder string, epoch int64) error {
		unclean := s.memory.lease.unclean
		err := s.ReleaseLease(ctx, holder, epoch)
		s.memory.lease.unclean = unclean
		return err
	}}}, caught{"lease-unclean": "step 9: after its release Unclean is 1, want 0"}},
	"forgets suspects at a takeover": {leasing(func(before memoryLease, l *memoryLease) {
		if before.epoch != l.epoch {
			l.suspect = core.Ref{}
		}
	}), caught{"suspect-mark": "after a takeover the suspect is {Position:0 ID:}, want {Position:1099511627776 ID:it's é漢😀"}},
	"forgets suspects at a renewal": {leasing(func(before memoryLease, l *memoryLease) {
		if before.epoch == l.epoch {
			l.suspect = core.Ref{}
		}
	}), caught{"suspect-mark": "after a renewal the suspect is {Position:0 ID:}, want {Position:1099511627776 ID:it's é漢😀"}},
	"marks no suspects": {suspecting(func(*Memory, *string, *int64, *core.Ref) bool { return false }),
		caught{"suspect-mark": "after the mark the suspect is {Position:0 ID:}, want {Position:1099511627776 ID:it's é漢😀"}},
	"marks suspects for anybody": {suspecting(func(m *Memory, holder *string, _ *int64, _ *core.Ref) bool {
		*holder = m.lease.holder
		return true
	}), caught{"suspect-mark": "MarkSuspect by stranger in epoch 1 reported true"}},
	"marks suspects in any epoch": {suspecting(func(m *Memory, _ *string, epoch *int64, _ *core.Ref) bool {
		*epoch = m.lease.epoch
		return true
	}), caught{"suspect-mark": "MarkSuspect by owner in epoch 0 reported true"}},
	"keeps the first suspect": {suspecting(func(m *Memory, _ *string, _ *int64, suspect *core.Ref) bool {
		if m.lease.suspect != (core.Ref{}) && *suspect != (core.Ref{}) {
			*suspect = m.lease.suspect
		}
		return true
	}), caught{"suspect-mark": "after another mark the suspect is {Position:1099511627776 ID:it's é漢😀"}},
	"clears no suspect": {suspecting(func(m *Memory, _ *string, _ *int64, suspect *core.Ref) bool {
		if *suspect == (core.Ref{}) {
			*suspect = m.lease.suspect
		}
		return true
	}), caught{"suspect-mark": "after it was cleared the suspect is {Position:7 ID:7}, want {Position:0 ID:}"}},
	"trims the suspect's id": {suspecting(func(_ *Memory, _ *string, _ *int64, suspect *core.Ref) bool {
		suspect.ID = strings.TrimSpace(suspect.ID)
		return true
	}), caught{"suspect-mark": "after the mark the suspect is {Position:1099511627776 ID:it's é漢😀"}},
	"releases nothing": {alteredDialect{session: altered{release: func(context.Context, *memorySession, string, int64) error { return nil }}},
		caught{"lease-release": `want the holder "", the epoch 1 and expired true`}},
	"releases for anybody": {alteredDialect{session: altered{release: func(ctx context.Context, s *memorySession, _ string, _ int64) error {
		lease := s.memory.Contents().Lease
		return s.ReleaseLease(ctx, lease.Holder, lease.Epoch)
	}}}, caught{"lease-release": `want the holder "owner", the epoch 1 and expired false`}},
}
