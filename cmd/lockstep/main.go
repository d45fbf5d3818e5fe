// Command lockstep is the operator's side of Lockstep, and its demonstration. Run "lockstep help".
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/lockstep-go/lockstep/internal/bench"
	"github.com/lockstep-go/lockstep/internal/demo"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	if demo.IsChild() {
		os.Exit(demo.RunChild())
	}
	if bench.IsChild() {
		os.Exit(bench.RunChild())
	}
	// Whatever ends the program early must let it remove its files and wait for its children: an interrupt, and a closed
	// terminal. A second signal ends it at once. A reader of its output that has gone away is an error of the write that
	// finds out; the signal, which comes with each such write, does nothing.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// toldError is an error that is told of a command that was interrupted, too: it says how far it got.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, syscall.EPIPE) {
		return exitFailure // there is nobody who wants to know
	}
	var told *toldError
	if ctx.Err() != nil && !errors.As(err, &told) {
		err = errors.New("interrupted")
	}
	fmt.Fprintln(stderr, "lockstep:", err)
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}
