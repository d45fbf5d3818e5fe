package sqlite

import (
	"errors"

	"github.com/lockstep-go/lockstep/core"
)

// SQLite's primary result codes; an extended code has its primary one in the low byte.
const (
	codeBusy     = 5
	codeReadOnly = 8
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNotADB   = 26
)

// code returns the primary result code of err, of any driver whose errors tell it, and 0 where there is none.
func code(err error) int {
	var coded interface{ Code() int }
	if !errors.As(err, &coded) {
		return 0
	}
	return coded.Code() & 0xff
}

// causes says, for what an operator can do something about, what that is.
var causes = map[int]core.SetupError{
	codeBusy: {
		Problem: "another process has a write transaction open on the file, and does not end it",
		Cure:    "find the process (`fuser FILE`, `lsof FILE`) and let it commit or stop it",
	},
	codeReadOnly: {
		Problem: "the file or its directory cannot be written",
		Cure:    "give this process's user write access to the file, to its -wal and -shm, and to the directory, and open it on a disk that is not mounted read-only",
	},
	codeCorrupt: {
		Problem: "the file is damaged",
		Cure:    "stop every process that uses it, run `PRAGMA integrity_check`, and restore a backup or `sqlite3 FILE .recover` it",
	},
	codeFull: {
		Problem: "the disk is full",
		Cure:    "free space on it",
	},
	codeCantOpen: {
		Problem: "the file cannot be opened or created, or not its -wal and -shm beside it",
		Cure:    "see that the directory exists and that this process's user may create files in it",
	},
	codeNotADB: {
		Problem: "the file is no SQLite database, or an encrypted one",
		Cure:    "check the path",
	},
}

// explained puts a cure to an error that has one and does not say it yet.
func explained(err error) error {
	var already *core.SetupError
	if err == nil || errors.As(err, &already) {
		return err
	}
	cause, known := causes[code(err)]
	if errors.Is(err, errHeld) {
		cause, known = causes[codeBusy], true
	}
	if !known {
		return err
	}
	cause.Err = err
	return &cause
}
