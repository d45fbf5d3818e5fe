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
		func(m *Memory, _ int64, _ *core.Promotion) { m.SetClock(0) }), []string{"promote-due"}},
	"promotes a little early": {promoting(
		func(m *Memory, _ *int64, _ *int) { m.SetClock(100 * time.Millisecond) },
		func(m *Memory, _ int64, _ *core.Promotion) { m.SetClock(0) }), []string{"promote-due"}},
	"promotes without limit": {promoting(func(_ *Memory, _ *int64, limit *int) { *limit = 1000 }, nil), []string{"promote-order"}},
	"promotes in enqueue order": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		for i := range msgs {
			if !msgs[i].NotBefore.IsZero() {
				msgs[i].NotBefore = time.Unix(0, 0)
			}
		}
		return m.Enqueue(ctx, tx, msgs)
	}}, []string{"promote-order"}},
	"promotes for anybody":         {promoting(func(m *Memory, epoch *int64, _ *int) { *epoch = m.lease.epoch }, nil), []string{"promote-fenced"}},
	"promotes for a newer one":     {promoting(func(m *Memory, epoch *int64, _ *int) { *epoch = min(*epoch, m.lease.epoch) }, nil), []string{"promote-fenced"}},
	"does not say Fenced":          {promoting(nil, func(_ *Memory, _ int64, p *core.Promotion) { p.Fenced = false }), []string{"promote-fenced"}},
	"promotes in secret":           {promoting(nil, func(m *Memory, generation int64, _ *core.Promotion) { m.locked(func() { m.generation = generation }) }), []string{"promote-generation", "fetch-generation"}},
	"keeps the time of enqueueing": {promoting(nil, func(m *Memory, _ int64, _ *core.Promotion) { m.outbox.rows[0].created = time.Now() }), []string{"promote-time"}},
	"promotes without the payload": {promoting(nil, func(m *Memory, _ int64, _ *core.Promotion) { m.outbox.rows[0].message.Payload = nil }), []string{"promote-complete"}},
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
	}}}, []string{"lease-new", "lease-take"}},
	"is not expired at first": {alteredDialect{session: altered{read: func(ctx context.Context, s *memorySession) (core.Lease, error) {
		lease, err := s.ReadLease(ctx)
		lease.Expired = false
		return lease, err
	}}}, []string{"lease-new", "lease-release", "lease-expires"}},
	"keeps the epoch":        {leasing(func(before memoryLease, l *memoryLease) { l.epoch = before.epoch }), []string{"lease-take"}},
	"has no renewals":        {leasing(func(_ memoryLease, l *memoryLease) { l.renewals = 0 }), []string{"lease-renew", "lease-take-seen"}},
	"never expires":          {leasing(func(_ memoryLease, l *memoryLease) { l.expires = l.expires.Add(time.Hour) }), []string{"lease-expires"}},
	"leases for no time":     {leasing(func(_ memoryLease, l *memoryLease) { l.expires = time.Time{} }), []string{"lease-take", "lease-renew"}},
	"lets anybody take":      {stealing(func(seen *core.Lease, now core.Lease) { *seen = now }), []string{"lease-take-seen", "lease-take-once"}},
	"takes by holder":        {stealing(func(seen *core.Lease, now core.Lease) { seen.Epoch, seen.Renewals = now.Epoch, now.Renewals }), []string{"lease-take-seen"}},
	"takes by epoch":         {stealing(func(seen *core.Lease, now core.Lease) { seen.Holder, seen.Renewals = now.Holder, now.Renewals }), []string{"lease-take-seen"}},
	"takes without renewals": {stealing(func(seen *core.Lease, now core.Lease) { seen.Renewals = now.Renewals }), []string{"lease-take-seen"}},
	"takes its own whatever came between": {alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		if now := s.memory.Contents().Lease; now.Holder == holder && seen.Holder == holder {
			seen = now
		}
		return s.TakeLease(ctx, seen, holder, ttl)
	}}}, []string{"lease-take-seen"}},
	"takes what is free whatever was seen": {stealing(func(seen *core.Lease, now core.Lease) {
		if now.Expired {
			*seen = now
		}
	}), []string{"lease-take-seen"}},
	"begins no term for the same holder": {leasing(func(before memoryLease, l *memoryLease) {
		if before.holder == l.holder {
			l.epoch = before.epoch
		}
	}), []string{"lease-take"}},
	"takes for half the time": {alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		return s.TakeLease(ctx, seen, holder, ttl/2)
	}}}, []string{"lease-expires"}},
	"renews for half the time": {renewingFor(func(ttl time.Duration) time.Duration { return ttl / 2 }), []string{"lease-expires"}},
	"renews for a millisecond": {renewingFor(func(time.Duration) time.Duration { return time.Millisecond }), []string{"lease-expires"}},
	"takes expired ones only": {alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		if !s.memory.Contents().Lease.Expired {
			return false, nil
		}
		return s.TakeLease(ctx, seen, holder, ttl)
	}}}, []string{"lease-take"}},
	"compares and takes apart": {alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
		now := s.memory.Contents().Lease
		if now.Epoch != seen.Epoch || now.Holder != seen.Holder || now.Renewals != seen.Renewals {
			return false, nil
		}
		time.Sleep(time.Millisecond) // the window of the race that this is about
		return s.TakeLease(ctx, s.memory.Contents().Lease, holder, ttl)
	}}}, []string{"lease-take-once"}},
	"renews for anybody": {alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, _ string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
		return s.RenewLease(ctx, s.memory.Contents().Lease.Holder, epoch, ttl, progress)
	}}}, []string{"lease-renew"}},
	"renews in any epoch": {alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, holder string, _ int64, ttl time.Duration, progress bool) (bool, error) {
		return s.RenewLease(ctx, holder, s.memory.Contents().Lease.Epoch, ttl, progress)
	}}}, []string{"lease-renew"}},
	"never was unclean":       {leasing(func(_ memoryLease, l *memoryLease) { l.unclean = 0 }), []string{"lease-unclean"}},
	"counts each takeover":    {leasing(func(before memoryLease, l *memoryLease) { l.unclean = before.unclean + int(l.epoch-before.epoch) }), []string{"lease-unclean"}},
	"forgets what it counted": {leasing(func(before memoryLease, l *memoryLease) { l.unclean = min(l.unclean, 1) }), []string{"lease-unclean"}},
	"takes each renewal for progress": {alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, holder string, epoch int64, ttl time.Duration, _ bool) (bool, error) {
		return s.RenewLease(ctx, holder, epoch, ttl, true)
	}}}, []string{"lease-unclean"}},
	"knows no progress": {alteredDialect{session: altered{renew: func(ctx context.Context, s *memorySession, holder string, epoch int64, ttl time.Duration, _ bool) (bool, error) {
		return s.RenewLease(ctx, holder, epoch, ttl, false)
	}}}, []string{"lease-unclean"}},
	"releases and stays unclean": {alteredDialect{session: altered{release: func(ctx context.Context, s *memorySession, holder string, epoch int64) error {
		unclean := s.memory.lease.unclean
		err := s.ReleaseLease(ctx, holder, epoch)
		s.memory.lease.unclean = unclean
		return err
	}}}, []string{"lease-unclean"}},
	"forgets suspects at a takeover": {leasing(func(before memoryLease, l *memoryLease) {
		if before.epoch != l.epoch {
			l.suspect = core.Ref{}
		}
	}), []string{"suspect-mark"}},
	"forgets suspects at a renewal": {leasing(func(before memoryLease, l *memoryLease) {
		if before.epoch == l.epoch {
			l.suspect = core.Ref{}
		}
	}), []string{"suspect-mark"}},
	"marks no suspects": {suspecting(func(*Memory, *string, *int64, *core.Ref) bool { return false }), []string{"suspect-mark"}},
	"marks suspects for anybody": {suspecting(func(m *Memory, holder *string, _ *int64, _ *core.Ref) bool {
		*holder = m.lease.holder
		return true
	}), []string{"suspect-mark"}},
	"marks suspects in any epoch": {suspecting(func(m *Memory, _ *string, epoch *int64, _ *core.Ref) bool {
		*epoch = m.lease.epoch
		return true
	}), []string{"suspect-mark"}},
	"keeps the first suspect": {suspecting(func(m *Memory, _ *string, _ *int64, suspect *core.Ref) bool {
		if m.lease.suspect != (core.Ref{}) && *suspect != (core.Ref{}) {
			*suspect = m.lease.suspect
		}
		return true
	}), []string{"suspect-mark"}},
	"clears no suspect": {suspecting(func(m *Memory, _ *string, _ *int64, suspect *core.Ref) bool {
		if *suspect == (core.Ref{}) {
			*suspect = m.lease.suspect
		}
		return true
	}), []string{"suspect-mark"}},
	"trims the suspect's id": {suspecting(func(_ *Memory, _ *string, _ *int64, suspect *core.Ref) bool {
		suspect.ID = strings.TrimSpace(suspect.ID)
		return true
	}), []string{"suspect-mark"}},
	"releases nothing": {alteredDialect{session: altered{release: func(context.Context, *memorySession, string, int64) error { return nil }}}, []string{"lease-release"}},
	"releases for anybody": {alteredDialect{session: altered{release: func(ctx context.Context, s *memorySession, _ string, _ int64) error {
		lease := s.memory.Contents().Lease
		return s.ReleaseLease(ctx, lease.Holder, lease.Epoch)
	}}}, []string{"lease-release"}},
}
