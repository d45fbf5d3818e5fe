package core

// Subscribe is subscribe, for the tests outside the package.
func (w *Waker) Subscribe() (wakeups <-chan struct{}, cancel func()) { return w.subscribe() }
