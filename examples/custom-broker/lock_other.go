//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
)

// lock refuses: without a lock two processes overwrite what the other one confirmed.
func lock(context.Context, *os.File) error {
	return fmt.Errorf("this broker does not know how to lock a file on %s", runtime.GOOS)
}
