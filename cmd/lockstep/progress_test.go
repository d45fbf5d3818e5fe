package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
)

// The clock is the bubble's, so nothing here takes time.
func TestProgress(t *testing.T) {
	failure := errors.New("the disk is full")
	for name, tc := range map[string]struct {
		takes time.Duration
		quiet bool // there is nothing to tell
		err   error
		want  string
	}{
		"short work is silent":           {takes: 1900 * time.Millisecond},
		"long work is told of each time": {takes: 6500 * time.Millisecond, want: "at 2s\nat 4s\nat 6s\n"},
		"an error comes back":            {takes: 2500 * time.Millisecond, err: failure, want: "at 2s\n"},
		"nothing to tell":                {takes: 5 * time.Second, quiet: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cmd, stdout, stderr := &cobra.Command{}, &bytes.Buffer{}, &bytes.Buffer{}
				cmd.SetOut(stdout)
				cmd.SetErr(stderr)
				began := time.Now()
				err := withProgress(t.Context(), cmd, func(context.Context) string {
					if tc.quiet {
						return ""
					}
					return fmt.Sprintf("at %v", time.Since(began))
				}, func() error {
					time.Sleep(tc.takes)
					return tc.err
				})
				time.Sleep(time.Minute) // whoever goes on telling would be heard
				if !errors.Is(err, tc.err) || stderr.String() != tc.want || stdout.Len() > 0 {
					t.Errorf("got %v, %q and %q on standard output, want %v, %q and nothing", err, stderr, stdout, tc.err, tc.want)
				}
			})
		})
	}
}

// A look that waits for the server must not hold up the end of the work.
func TestProgressOfAServerThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cmd, stderr := &cobra.Command{}, &bytes.Buffer{}
		cmd.SetErr(stderr)
		began := time.Now()
		err := withProgress(t.Context(), cmd, func(ctx context.Context) string {
			<-ctx.Done()
			return "too late"
		}, func() error {
			time.Sleep(3 * time.Second)
			return nil
		})
		if took := time.Since(began); err != nil || took != 3*time.Second || stderr.Len() > 0 {
			t.Errorf("got %v after %v and %q, want nothing after 3s", err, took, stderr)
		}
	})
}
