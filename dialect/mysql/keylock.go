package mysql

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/lockstep-go/lockstep/core"
)

// lockBuckets is how many rows there are to lock. It stays the same for good: writers that count otherwise would lock other
// rows.
const lockBuckets = 4096

// LockKeys implements [core.KeyLocker] by rows that stand for the keys, which the transaction's end releases, in ascending
// order. Two keys that share a row only wait for each other without need.
func (d *Dialect) LockKeys(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	var buckets []uint32
	for _, m := range msgs {
		if m.Key != "" {
			buckets = append(buckets, bucket(m.Topic, m.Key))
		}
	}
	if len(buckets) == 0 {
		return nil
	}
	slices.Sort(buckets)
	query := `SELECT bucket FROM {key_lock} FORCE INDEX (PRIMARY) WHERE bucket IN (` +
		list(slices.Compact(buckets), func(b uint32) string { return integer(int(b)) }) + `) ORDER BY bucket FOR UPDATE`
	if _, err := tx.ExecContext(ctx, d.names.Replace(query)); err != nil {
		return fmt.Errorf("lock keys: %w", err)
	}
	return nil
}

// bucket is CRC32(CONCAT(topic, CHAR(0), key)) % 4096 in SQL.
func bucket(topic, key string) uint32 {
	return crc32.ChecksumIEEE([]byte(topic+"\x00"+key)) % lockBuckets
}
