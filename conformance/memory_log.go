package conformance

import (
	"slices"

	"github.com/lockstep-go/lockstep/core"
)

// commit is a committed change, with what it takes to undo it. Empty ones are not counted: a database does not write
// them either.
type commit struct {
	rows     []rowChange
	blocked  []blockedChange
	received []receivedChange

	// What these were before.
	lease             memoryLease
	generation        int64
	next, nextDelayed int64
}

// rowChange put row after into a table, in the place of before. Either may be nil.
type rowChange struct {
	table         *memoryTable
	before, after *memoryRow
	enqueued      bool // by a transaction of the application
}

type blockedChange struct {
	key    topicKey
	before []core.BlockedKey
}

func (m *Memory) current() *commit { return &m.log[m.commits%len(m.log)] }

// insertRows puts rows, which ascend, into table.
func (m *Memory) insertRows(table *memoryTable, rows []*memoryRow, enqueued bool) {
	if len(rows) == 0 {
		return
	}
	log := m.current()
	for _, row := range rows {
		log.rows = append(log.rows, rowChange{table, nil, row, enqueued})
	}
	table.insert(rows)
}

// removeRows takes the rows at indices out of table. It sorts indices, and each index counts once.
func (m *Memory) removeRows(table *memoryTable, indices []int) {
	if len(indices) == 0 {
		return
	}
	slices.Sort(indices)
	indices = slices.Compact(indices)
	log := m.current()
	for _, i := range indices {
		log.rows = append(log.rows, rowChange{table, table.rows[i], nil, false})
	}
	table.remove(indices)
}

// replaceRow puts row, of the same position, in the place of the one at index i.
func (m *Memory) replaceRow(table *memoryTable, i int, row *memoryRow) {
	log := m.current()
	log.rows = append(log.rows, rowChange{table, table.rows[i], row, false})
	table.rows[i] = row
}

// setBlocked makes blockers what blocks key. The slice is not changed afterwards, only replaced.
func (m *Memory) setBlocked(key topicKey, blockers []core.BlockedKey) {
	log := m.current()
	log.blocked = append(log.blocked, blockedChange{key, m.blocked[key]})
	if len(blockers) == 0 {
		delete(m.blocked, key)
	} else {
		m.blocked[key] = blockers
	}
}

// commit ends the change that is being written.
func (m *Memory) commit() {
	log := m.current()
	if len(log.rows) == 0 && len(log.blocked) == 0 && len(log.received) == 0 && log.lease == m.lease && log.generation == m.generation {
		return
	}
	m.commits++
	m.undoable = min(m.undoable+1, m.config.History)
	m.beginCommit()
}

func (m *Memory) beginCommit() {
	log := m.current()
	log.rows, log.blocked, log.received = log.rows[:0], log.blocked[:0], log.received[:0]
	log.lease, log.generation, log.next, log.nextDelayed = m.lease, m.generation, m.next, m.nextDelayed
}

// undo takes the latest n commits back, and returns the ids of the messages that were enqueued by them. The next
// position becomes what it was after the last commit that is left, as on a replica that has received no more.
func (m *Memory) undo(n int) (lost []string) {
	if n > m.config.History {
		panic("conformance: Restart.Lose is more than MemoryConfig.History")
	}
	for range min(n, m.undoable) {
		m.commits--
		m.undoable--
		log := m.current()
		for _, change := range slices.Backward(log.rows) {
			if change.enqueued {
				lost = append(lost, change.after.message.ID)
			}
			change.revert()
		}
		for _, change := range slices.Backward(log.blocked) {
			if len(change.before) == 0 {
				delete(m.blocked, change.key)
			} else {
				m.blocked[change.key] = change.before
			}
		}
		m.unreceive(log.received)
		m.lease, m.generation, m.next, m.nextDelayed = log.lease, log.generation, log.next, log.nextDelayed
		m.beginCommit()
	}
	return lost
}

func (c rowChange) revert() {
	switch {
	case c.before == nil:
		c.table.remove([]int{c.table.index(c.after)})
	case c.after == nil:
		c.table.insert([]*memoryRow{c.before})
	default:
		c.table.rows[c.table.index(c.after)] = c.before
	}
}
