package core

// SetupError says why a database cannot hold or serve an outbox as it is, and what to do about it. A dialect returns it
// from its start-up checks, alone or joined with others.
type SetupError struct {
	// Problem is what is wrong, in the operator's words.
	Problem string
	// Cure is what to do about it.
	Cure string
	// Err is the database's own error; nil where there was none.
	Err error
}

func (e *SetupError) Error() string { return e.Problem + ": " + e.Cure }

// Unwrap returns Err.
func (e *SetupError) Unwrap() error { return e.Err }
