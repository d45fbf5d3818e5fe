package sqlite

import "context"

// FetchStatement is a fetch with gaps. Its arguments are the ranges, a limit, the position and a limit.
func FetchStatement(d *Dialect) string { return d.names.Replace(fetchHeader + fetchGaps + fetchTail) }

var LibraryFault = libraryFault

// CheckJournal is Check's question for the journal mode, also of a database in memory.
func CheckJournal(ctx context.Context, d *Dialect) error {
	file := Dialect{source: d.source}
	file.source.memory = false
	return file.checkJournal(ctx, d.reader)
}

// PurgeStatements are those of a purge, each with the index that it goes by.
func PurgeStatements(d *Dialect) map[string]string {
	return map[string]string{
		"outbox_archive_delivered": d.names.Replace(purgeArchive), "outbox_dead_dropped": d.names.Replace(purgeDead),
	}
}
