package sqlite

import "context"

// FetchStatement is a fetch with gaps. Its arguments are the ranges, a limit, the position and a limit.
func FetchStatement(d *Dialect) string { return d.names.Replace(fetchHeader + fetchGaps + fetchTail) }

var LibraryFault = libraryFault

// CheckJournal is Check's question for the journal mode, also of a database in memory.
func CheckJournal(ctx context.Context, d *Dialect) error {
	file := *d
	file.source.memory = false
	return file.checkJournal(ctx, d.reader)
}
