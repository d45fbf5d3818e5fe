//go:build !linux

package sqlite

import (
	"errors"
	"os"
)

// watchWrites is not possible here with the standard library.
func watchWrites(string) (*os.File, error) { return nil, errors.ErrUnsupported }
