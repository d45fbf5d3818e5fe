package sqlite

// FetchStatement is a fetch with gaps. Its arguments are the ranges, a limit, the position and a limit.
func FetchStatement(d *Dialect) string { return d.names.Replace(fetchHeader + fetchGaps + fetchTail) }
