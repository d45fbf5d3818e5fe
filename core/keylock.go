package core

import (
	"errors"
	"fmt"
)

// ErrNoKeyLocks is returned when OutboxConfig.LockKeys is set and the dialect cannot lock keys.
var ErrNoKeyLocks = errors.New("LockKeys is set and the dialect has no key locks: " +
	"unset it, and have the transactions on one key update the same row before they enqueue")

// keyLocker returns dialect's ability to lock keys, its own or that of a dialect it wraps; nil where there is none.
func keyLocker(dialect Dialect) KeyLocker {
	for dialect != nil {
		if locker, ok := dialect.(KeyLocker); ok {
			return locker
		}
		wrapper, ok := dialect.(interface{ Unwrap() Dialect })
		if !ok {
			return nil
		}
		dialect = wrapper.Unwrap()
	}
	return nil
}

// checkLocker refuses to write in an order that the configuration asks for and nobody keeps.
func (o *Outbox) checkLocker() error {
	if o.config.LockKeys && o.locker == nil {
		return fmt.Errorf("%w (%T)", ErrNoKeyLocks, o.dialect)
	}
	return nil
}
