package kafka

import (
	"fmt"
	"testing"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// allocEvents is how many messages a cycle of these tests carries.
const allocEvents = 1000

func allocMessages() []core.Message {
	msgs := make([]core.Message, allocEvents)
	for i := range msgs {
		msgs[i] = core.Message{ID: core.NewID(), Topic: "t", Key: fmt.Sprint(i), Payload: make([]byte, 300)}
	}
	return msgs
}

func encodeCycle(t testing.TB) func() {
	msgs := allocMessages()
	pointers := make([]*core.Message, len(msgs))
	for i := range msgs {
		pointers[i] = &msgs[i]
	}
	b := &Broker{}
	return func() {
		e := encoder{headers: b.headers}
		if _, err := e.encode(pointers, number{anonymous, -1}, false); err != nil {
			t.Fatal(err)
		}
	}
}

func divideCycle() func() {
	c := &call{msgs: allocMessages()}
	all := make([]int, allocEvents)
	for i := range all {
		all[i] = i
	}
	b := &Broker{}
	return func() { _ = b.divide(c, all, []int{0, 1, 2, 3, 4, 5, 6, 7}) }
}

// TestAllocations holds what messages cost in allocations: a number that is the same on every machine. Whoever raises one
// says why. None is made for each message.
func TestAllocations(t *testing.T) {
	for _, test := range []struct {
		name  string
		cycle func()
		most  float64 // for allocEvents messages
	}{
		{"encode", encodeCycle(t), 20},
		{"divide", divideCycle(), 100},
	} {
		if got := testing.AllocsPerRun(20, test.cycle); got > test.most {
			t.Errorf("%s: %v allocations for %d messages, want at most %v", test.name, got, allocEvents, test.most)
		} else {
			t.Logf("%s: %v allocations for %d messages", test.name, got, allocEvents)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	cycle := encodeCycle(b)
	b.ReportAllocs()
	for b.Loop() {
		cycle()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/allocEvents, "ns/event")
}

// TestMurmur2IsKafkaGos compares the hash with the one that the client has, which compares with Java's in a test of its own.
func TestMurmur2IsKafkaGos(t *testing.T) {
	t.Parallel()
	const partitions = 1_000_003 // a prime, so that a difference in any bit shows
	ids := make([]int, partitions)
	for i := range ids {
		ids[i] = i
	}
	key := ""
	for i := range 500 {
		key += string(rune('!' + i%90))
		want := kafkago.Murmur2Balancer{}.Balance(kafkago.Message{Key: []byte(key)}, ids...)
		if got := int((&Broker{}).HashKey("t", key)) % partitions; got != want {
			t.Fatalf("key %q: got partition %d, want %d", key, got, want)
		}
	}
}
