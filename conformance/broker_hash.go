package conformance

import (
	"context"
	"fmt"

	"github.com/lockstep-go/lockstep/core"
)

// checkKeyHash asks for the hashes of many keys again and again, while the broker publishes: it may have looked at the topic
// in the meantime, and connected anew.
func checkKeyHash(ctx context.Context, f BrokerFixture) error {
	hasher, _ := core.Ability[core.KeyHasher](f.Broker)
	const keys, rounds = 100, 3
	hashes := map[string]uint32{}
	for round := range rounds {
		for i := range keys {
			key := fmt.Sprintf("key-%d", i)
			hash := hasher.HashKey(f.Topic, key)
			if before, known := hashes[key]; known && hash != before {
				return fmt.Errorf("the hash of key %q was %d and is %d: the relay would move it to another lane, beside its own messages", key, before, hash)
			}
			hashes[key] = hash
		}
		if err := f.publish(ctx, core.Message{ID: core.NewID(), Key: fmt.Sprintf("key-%d", round), Payload: []byte("hash")}); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return nil
}
