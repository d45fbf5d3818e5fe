package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// errNotSent says that kafka-go had not come for the record batch when its request ended, and will find none if it comes.
var errNotSent = errors.New("nothing was sent")

// parcel is a record batch as kafka-go takes it: once it has a connection, which may be after the request has ended. It
// tells a lost answer from a connection that never came to be, whose errors are not different (a login that is cut off is
// an EOF as well).
type parcel struct {
	batch *bytes.Reader
	state atomic.Int32 // one of the constants below
}

const (
	waiting int32 = iota
	taken
	withdrawn
)

// withdraw takes the batch back. It returns false where it may have been sent.
func (p *parcel) withdraw() bool { return p.state.CompareAndSwap(waiting, withdrawn) }

func (p *parcel) take() bool {
	return p.state.CompareAndSwap(waiting, taken) || p.state.Load() == taken
}

// Read implements [io.Reader].
func (p *parcel) Read(b []byte) (int, error) {
	if !p.take() {
		return 0, errNotSent
	}
	return p.batch.Read(b)
}

// WriteTo implements [io.WriterTo], which spares a copy.
func (p *parcel) WriteTo(w io.Writer) (int64, error) {
	if !p.take() {
		return 0, errNotSent
	}
	return p.batch.WriteTo(w)
}

// notSent returns the error of a request whose batch was withdrawn. It is one whatever the request says.
func notSent(err error) error {
	if err == nil {
		return errNotSent
	}
	return fmt.Errorf("%w: %w", errNotSent, err)
}
