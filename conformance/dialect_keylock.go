package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// keyLocker is the fixture's ability; its checks run only where there is one.
func (f DialectFixture) keyLocker() core.KeyLocker {
	locker, _ := core.Ability[core.KeyLocker](f.Dialect)
	return locker
}

func checkLockKeys(ctx context.Context, f DialectFixture) error {
	holder, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	if err := f.keyLocker().LockKeys(ctx, holder, []core.Message{keyed("a", "k"), keyed("b", ""), keyed("c", "k")}); err != nil {
		return err
	}
	locked := make(chan error, 1)
	waiter, rollbackWaiter, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollbackWaiter()
	go func() { locked <- f.keyLocker().LockKeys(ctx, waiter, []core.Message{keyed("d", "k")}) }()
	err = f.meanwhile(ctx, func() error {
		select {
		case err := <-locked:
			locked <- err
			return fmt.Errorf("a second transaction locked the key while the first was open (%v)", err)
		default:
			return nil
		}
	})
	if err == nil {
		err = f.lockAtOnce(ctx, keyed("e", ""))
	}
	err = firstError(err, holder.Commit())
	select {
	case lockErr := <-locked:
		return firstError(err, lockErr)
	case <-time.After(waitLimit):
		return firstError(err, errors.New("the key is not free after its holder's commit"))
	}
}

// lockAtOnce locks the message's key in a transaction of its own, without waiting.
func (f DialectFixture) lockAtOnce(ctx context.Context, m core.Message) error {
	limited, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	tx, rollback, err := f.begin(limited)
	if err != nil {
		return err
	}
	defer rollback()
	if err := f.keyLocker().LockKeys(limited, tx, []core.Message{m}); err != nil {
		return fmt.Errorf("a transaction that locks nothing of the others' waits: %w", err)
	}
	return nil
}

// Two applications lock two keys again and again, in opposite orders. A deadlock is an error in one of them.
func checkLockKeysOrder(ctx context.Context, f DialectFixture) error {
	msgs := []core.Message{keyed("a", "a"), keyed("b", "b"), {ID: "c", Topic: "a", Key: "b"}}
	lock := func(msgs ...core.Message) error {
		for range 30 {
			tx, rollback, err := f.begin(ctx)
			if err != nil {
				return err
			}
			err = f.keyLocker().LockKeys(ctx, tx, msgs)
			rollback()
			if err != nil {
				return err
			}
		}
		return nil
	}
	other := make(chan error, 1)
	go func() { other <- lock(msgs[2], msgs[1], msgs[0]) }()
	err := lock(msgs...)
	return firstError(<-other, err)
}
