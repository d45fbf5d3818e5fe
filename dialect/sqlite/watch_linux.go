package sqlite

import (
	"fmt"
	"os"
	"syscall"
)

// watchWrites returns a file that becomes readable when the one at path is written to, by whatever process.
func watchWrites(path string) (*os.File, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	watch := os.NewFile(uintptr(fd), "inotify")
	if _, err := syscall.InotifyAddWatch(fd, path, syscall.IN_MODIFY); err != nil {
		watch.Close()
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	return watch, nil
}
