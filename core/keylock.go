package core

import (
	"errors"
	"fmt"
)

// ErrNoKeyLocks is returned when OutboxConfig.LockKeys is set and the dialect cannot lock keys.
var ErrNoKeyLocks = errors.New("LockKeys is set and the dialect has no key locks: " +
	"unset it, and have the transactions on one key update the same row before they enqueue")

// checkLocker refuses to write in an order that the configuration asks for and nobody keeps.
func (o *Outbox) checkLocker() error {
	if o.config.LockKeys && o.locker == nil {
		return fmt.Errorf("%w (%T)", ErrNoKeyLocks, o.dialect)
	}
	return nil
}
