package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var leaseChecks = []check[DialectFixture]{
	{"lease-new", "a lease that was never taken has no holder and is expired; Outbox is the outbox's UUID, made once", checkLeaseNew},
	{"lease-take", "TakeLease makes holder the lease's owner for ttl, with the epoch after the seen one", checkLeaseTake},
	{"lease-take-seen", "TakeLease succeeds if the lease still is as it was seen: the same epoch, holder and renewals, whoever takes it", checkLeaseTakeSeen},
	{"lease-take-once", "of several that take the lease as they all saw it, one succeeds", checkLeaseTakeOnce},
	{"lease-renew", "RenewLease extends the lease if holder still owns it in epoch; Renewals changes with each renewal", checkLeaseRenew},
	{"lease-expires", "the lease expires when its ttl is over by the database's clock, and not before", checkLeaseExpires},
	{"lease-release", "ReleaseLease gives the lease up if holder still owns it in epoch, so that another relay takes it at once", checkLeaseRelease},
	{"lease-unclean", "Unclean grows by one where the lease was not released before; with its release, or a renewal that tells of progress, it becomes 0", checkLeaseUnclean},
	{"suspect-mark", "MarkSuspect sets the lease's Suspect, or clears it, if holder still owns the lease in epoch; the mark stays through takeovers", checkSuspectMark},
}

// expectLease compares the lease with what it should be; Renewals and Outbox are passed over.
func expectLease(ctx context.Context, s core.Session, want core.Lease) (core.Lease, error) {
	got, err := s.ReadLease(ctx)
	if err == nil && (got.Holder != want.Holder || got.Epoch != want.Epoch || got.Expired != want.Expired) {
		err = fmt.Errorf("the lease is %+v, want the holder %q, the epoch %d and expired %v", got, want.Holder, want.Epoch, want.Expired)
	}
	return got, err
}

// expectBool compares what a call reported.
func expectBool(what string, want bool) func(got bool, err error) error {
	return func(got bool, err error) error {
		if err == nil && got != want {
			err = fmt.Errorf("%s reported %v", what, got)
		}
		return err
	}
}

func checkLeaseNew(ctx context.Context, f DialectFixture) error {
	return f.sessions(ctx, func(a, b core.Session) error {
		first, err := a.ReadLease(ctx)
		if err != nil {
			return err
		}
		if first.Outbox == "" || first.Holder != "" || !first.Expired {
			return fmt.Errorf("a lease that was never taken is %+v", first)
		}
		again, err := b.ReadLease(ctx)
		if err == nil && again != first {
			err = fmt.Errorf("the lease is %+v and then, untouched, %+v", first, again)
		}
		return err
	})
}

func checkLeaseTake(ctx context.Context, f DialectFixture) error {
	return f.sessions(ctx, func(a, b core.Session) error {
		seen, err := a.ReadLease(ctx)
		if err != nil {
			return err
		}
		// The second takes it from the first, which has not let it expire: whether it is alive is the engine's to judge. Who
		// takes what was its own begins another term all the same.
		for i, holder := range []string{"a", "it's é", "it's é"} {
			err := expectBool("TakeLease of an unchanged lease", true)(a.TakeLease(ctx, seen, holder, time.Hour))
			if err != nil {
				return err
			}
			now, err := expectLease(ctx, b, core.Lease{Holder: holder, Epoch: seen.Epoch + 1})
			if err != nil {
				return err
			}
			if now.Outbox != seen.Outbox {
				return fmt.Errorf("taker %d changed the outbox from %s to %s", i, seen.Outbox, now.Outbox)
			}
			seen = now
		}
		return nil
	})
}

func checkLeaseTakeSeen(ctx context.Context, f DialectFixture) error {
	return f.session(ctx, func(s core.Session) error {
		first, err := s.ReadLease(ctx)
		if err != nil {
			return err
		}
		epoch, err := own(ctx, s)
		if err != nil {
			return err
		}
		owned, err := s.ReadLease(ctx)
		if err != nil {
			return err
		}
		if err := expectBool("RenewLease by the owner", true)(s.RenewLease(ctx, "owner", epoch, time.Hour, false)); err != nil {
			return err
		}
		renewed, err := s.ReadLease(ctx)
		if err != nil {
			return err
		}
		otherHolder, otherEpoch := renewed, renewed
		otherHolder.Holder = "Owner"
		otherEpoch.Epoch++
		for what, seen := range map[string]core.Lease{
			"from before it was taken": first, "from before it was renewed": owned,
			"with another holder": otherHolder, "with another epoch": otherEpoch,
		} {
			err := expectBool("TakeLease of the lease "+what, false)(s.TakeLease(ctx, seen, "thief", time.Hour))
			if err != nil {
				return err
			}
		}
		if _, err = expectLease(ctx, s, core.Lease{Holder: "owner", Epoch: epoch}); err != nil {
			return err
		}
		return takenMeanwhile(ctx, s, renewed)
	})
}

// takenMeanwhile takes the lease from the owner that seen has, and returns it to the same: seen is what the owner knew of
// its lease before another had it. Then nobody has it, and seen still is not what it is.
func takenMeanwhile(ctx context.Context, s core.Session, seen core.Lease) error {
	if err := expectBool("TakeLease of an unchanged lease", true)(s.TakeLease(ctx, seen, "another", time.Hour)); err != nil {
		return err
	}
	stale := func(when string) error {
		return expectBool("TakeLease of the lease as its holder knew it, "+when+",", false)(s.TakeLease(ctx, seen, seen.Holder, time.Hour))
	}
	if err := stale("which another has taken since"); err != nil {
		return err
	}
	epoch, err := own(ctx, s)
	if err != nil {
		return err
	}
	if err := stale("which another had meanwhile"); err != nil {
		return err
	}
	if _, err := expectLease(ctx, s, core.Lease{Holder: seen.Holder, Epoch: epoch}); err != nil {
		return err
	}
	if err := s.ReleaseLease(ctx, seen.Holder, epoch); err != nil {
		return err
	}
	if err := stale("which is free now"); err != nil {
		return err
	}
	_, err = expectLease(ctx, s, core.Lease{Epoch: epoch, Expired: true})
	return err
}

func checkLeaseTakeOnce(ctx context.Context, f DialectFixture) error {
	return f.sessions(ctx, func(a, b core.Session) error {
		for range 20 {
			seen, err := a.ReadLease(ctx)
			if err != nil {
				return err
			}
			type answer struct {
				taken bool
				err   error
			}
			other := make(chan answer, 1)
			go func() {
				taken, err := b.TakeLease(ctx, seen, "b", time.Hour)
				other <- answer{taken, err}
			}()
			taken, err := a.TakeLease(ctx, seen, "a", time.Hour)
			b := <-other
			if err := firstError(err, b.err); err != nil {
				return err
			}
			if taken == b.taken {
				return fmt.Errorf("two took the lease %+v at the same time; the first succeeded: %v, the second: %v", seen, taken, b.taken)
			}
		}
		return nil
	})
}

func checkLeaseRenew(ctx context.Context, f DialectFixture) error {
	return f.session(ctx, func(s core.Session) error {
		epoch, err := own(ctx, s)
		if err != nil {
			return err
		}
		before, err := s.ReadLease(ctx)
		if err != nil {
			return err
		}
		err = firstError(
			expectBool("RenewLease by another holder", false)(s.RenewLease(ctx, "Owner", epoch, time.Hour, false)),
			expectBool("RenewLease in an earlier epoch", false)(s.RenewLease(ctx, "owner", epoch-1, time.Hour, false)),
			expectBool("RenewLease in a later epoch", false)(s.RenewLease(ctx, "owner", epoch+1, time.Hour, false)))
		if err != nil {
			return err
		}
		seen := map[int64]bool{before.Renewals: true}
		for range 3 {
			if err := expectBool("RenewLease by the owner", true)(s.RenewLease(ctx, "owner", epoch, time.Hour, false)); err != nil {
				return err
			}
			after, err := expectLease(ctx, s, core.Lease{Holder: "owner", Epoch: epoch})
			if err != nil {
				return err
			}
			if seen[after.Renewals] {
				return fmt.Errorf("after a renewal Renewals is %d, as it was before", after.Renewals)
			}
			seen[after.Renewals] = true
		}
		return nil
	})
}

// shortLease is long enough to be seen before half of it is over.
const shortLease = 150 * time.Millisecond

func checkLeaseExpires(ctx context.Context, f DialectFixture) error {
	return f.session(ctx, func(s core.Session) error {
		free, err := s.ReadLease(ctx)
		if err != nil {
			return err
		}
		epoch := free.Epoch + 1
		renew := func(ttl time.Duration) error {
			return expectBool("RenewLease by the owner", true)(s.RenewLease(ctx, "owner", epoch, ttl, false))
		}
		err = expiring(ctx, s, "a lease that was taken", func() error {
			return expectBool("TakeLease of an unchanged lease", true)(s.TakeLease(ctx, free, "owner", shortLease))
		})
		if err != nil {
			return err
		}
		// A renewal counts from now: what is over lives again, and for less time than the lease had, too.
		if err := renew(time.Hour); err != nil {
			return err
		}
		if _, err := expectLease(ctx, s, core.Lease{Holder: "owner", Epoch: epoch}); err != nil {
			return err
		}
		if err := expiring(ctx, s, "a lease that was renewed", func() error { return renew(shortLease) }); err != nil {
			return err
		}
		_, err = expectLease(ctx, s, core.Lease{Holder: "owner", Epoch: epoch, Expired: true})
		return err
	})
}

// expiring waits until the lease that begin leaves for shortLease is expired. The time is counted from before begin, so
// that a slow machine hides what expires early, and accuses nothing that does not.
func expiring(ctx context.Context, s core.Session, what string, begin func() error) error {
	began := time.Now()
	if err := begin(); err != nil {
		return err
	}
	return eventually(ctx, what+" and whose time is over is not expired", func() (bool, error) {
		lease, err := s.ReadLease(ctx)
		if lived := time.Since(began); err == nil && lease.Expired && lived < shortLease*9/10 {
			err = fmt.Errorf("%s for %v is expired after %v", what, shortLease, lived)
		}
		return lease.Expired, err
	})
}

func checkLeaseRelease(ctx context.Context, f DialectFixture) error {
	return f.session(ctx, func(s core.Session) error {
		epoch, err := own(ctx, s)
		if err != nil {
			return err
		}
		owned := core.Lease{Holder: "owner", Epoch: epoch}
		err = firstError(s.ReleaseLease(ctx, "Owner", epoch), s.ReleaseLease(ctx, "owner", epoch-1), s.ReleaseLease(ctx, "owner", epoch+1))
		if err != nil {
			return err
		}
		if _, err := expectLease(ctx, s, owned); err != nil {
			return fmt.Errorf("after releases by others %w", err)
		}
		for range 2 {
			if err := s.ReleaseLease(ctx, "owner", epoch); err != nil {
				return err
			}
		}
		if _, err := expectLease(ctx, s, core.Lease{Epoch: epoch, Expired: true}); err != nil {
			return err
		}
		next, err := own(ctx, s)
		if err == nil && next != epoch+1 {
			err = fmt.Errorf("after the epoch %d came %d", epoch, next)
		}
		return err
	})
}

func checkLeaseUnclean(ctx context.Context, f DialectFixture) error {
	return f.session(ctx, func(s core.Session) error {
		var epoch int64
		take := func() (err error) { epoch, err = own(ctx, s); return err }
		renew := func(progress bool) func() error {
			return func() error {
				return expectBool("RenewLease by the owner", true)(s.RenewLease(ctx, "owner", epoch, time.Hour, progress))
			}
		}
		for i, step := range []struct {
			what string
			do   func() error
			want int
		}{
			{"it was taken for the first time", take, 0},
			{"it was taken from an owner", take, 1},
			{"it was taken from an owner again", take, 2},
			{"a renewal that tells of no progress", renew(false), 2},
			{"a stranger's renewal, which tells of progress", func() error {
				return expectBool("RenewLease by a stranger", false)(s.RenewLease(ctx, "stranger", epoch, time.Hour, true))
			}, 2},
			{"a renewal that tells of progress", renew(true), 0},
			{"it was taken from an owner that had told of progress", take, 1},
			{"a stranger's release", func() error { return s.ReleaseLease(ctx, "stranger", epoch) }, 1},
			{"its release", func() error { return s.ReleaseLease(ctx, "owner", epoch) }, 0},
			{"it was taken when it was free", take, 0},
		} {
			if err := step.do(); err != nil {
				return err
			}
			lease, err := s.ReadLease(ctx)
			if err == nil && lease.Unclean != step.want {
				err = fmt.Errorf("step %d: after %s Unclean is %d, want %d", i+1, step.what, lease.Unclean, step.want)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func checkSuspectMark(ctx context.Context, f DialectFixture) error {
	return f.sessions(ctx, func(a, b core.Session) error {
		epoch, err := own(ctx, a)
		if err != nil {
			return err
		}
		suspect := core.Ref{Position: 1 << 40, ID: ofLength("it's é漢😀 ", core.MaxIDBytes-1) + " "}
		mark := func(holder string, epoch int64, ref core.Ref, want bool) error {
			return expectBool(fmt.Sprintf("MarkSuspect by %s in epoch %d", holder, epoch), want)(a.MarkSuspect(ctx, holder, epoch, ref))
		}
		marked := func(when string, want core.Ref) error {
			lease, err := b.ReadLease(ctx)
			if err == nil && lease.Suspect != want {
				err = fmt.Errorf("%s the suspect is %+v, want %+v", when, lease.Suspect, want)
			}
			return err
		}
		other := core.Ref{Position: 7, ID: "7"}
		err = firstError(
			marked("before any mark", core.Ref{}),
			mark("owner", epoch, suspect, true), marked("after the mark", suspect),
			mark("stranger", epoch, core.Ref{}, false), mark("owner", epoch-1, other, false), mark("owner", epoch+1, other, false),
			marked("after marks by others", suspect),
			expectBool("RenewLease by the owner", true)(a.RenewLease(ctx, "owner", epoch, time.Hour, true)),
			marked("after a renewal", suspect))
		if err != nil {
			return err
		}
		if epoch, err = own(ctx, a); err != nil {
			return err
		}
		return firstError(
			marked("after a takeover", suspect),
			mark("owner", epoch, other, true), marked("after another mark", other),
			mark("owner", epoch, core.Ref{}, true), marked("after it was cleared", core.Ref{}))
	})
}
