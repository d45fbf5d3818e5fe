package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
)

// ledger is what a consumer of the topic has seen.
type ledger struct {
	deliveries map[string]int  // by event id
	first      map[int][]order // first occurrences by customer, as they arrived
	total      int
}

// consume reads the whole topic, partition by partition, with a consumer that knows nothing of Lockstep.
func consumeKafka(ctx context.Context, broker, topic string, partitions int) (*ledger, error) {
	l := &ledger{deliveries: map[string]int{}, first: map[int][]order{}}
	for p := range partitions {
		if err := l.consumePartition(ctx, broker, topic, p); err != nil {
			return nil, fmt.Errorf("consume %s/%d: %w", topic, p, err)
		}
	}
	return l, nil
}

func (l *ledger) consumePartition(ctx context.Context, broker, topic string, partition int) error {
	conn, err := kafkago.DialLeader(ctx, "tcp", broker, topic, partition)
	if err != nil {
		return err
	}
	end, err := conn.ReadLastOffset()
	if err := errors.Join(err, conn.Close()); err != nil {
		return err
	}
	reader := kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: []string{broker}, Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond,
	})
	defer reader.Close()
	for offset := int64(0); offset < end; {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		offset = m.Offset + 1
		id := ""
		for _, h := range m.Headers {
			if h.Key == kafka.IDHeader {
				id = string(h.Value)
			}
		}
		if err := l.record(id, string(m.Key), m.Value); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) record(id, key string, payload []byte) error {
	var o order
	if err := json.Unmarshal(payload, &o); err != nil {
		return err
	}
	if id != o.ID || key != fmt.Sprint(o.Customer) {
		return fmt.Errorf("a message has id %q and key %q, and its payload is %+v", id, key, o)
	}
	l.total++
	l.deliveries[id]++
	if l.deliveries[id] == 1 {
		l.first[o.Customer] = append(l.first[o.Customer], o)
	}
	return nil
}

// findings are the ways in which a topic and a database disagree.
type findings struct {
	lost       int // committed orders without an event
	invented   int // events without a committed order
	disordered int // first occurrences that are not the next of their key
	duplicates int // deliveries beyond the first; allowed
}

func (l *ledger) compare(committed map[string]order) findings {
	var f findings
	for id := range committed {
		if l.deliveries[id] == 0 {
			f.lost++
		}
	}
	for id, n := range l.deliveries {
		if _, ok := committed[id]; !ok {
			f.invented++
		}
		f.duplicates += n - 1
	}
	for _, orders := range l.first {
		for i, o := range orders {
			if o.Seq != int64(i+1) {
				f.disordered++
			}
		}
	}
	return f
}

func TestCompareFindsEachFault(t *testing.T) {
	a1, a2, a3 := order{"a1", 1, 1}, order{"a2", 1, 2}, order{"a3", 1, 3}
	committed := map[string]order{"a1": a1, "a2": a2, "a3": a3}
	for name, tt := range map[string]struct {
		arrived []order
		want    findings
	}{
		"all is well":  {[]order{a1, a2, a3}, findings{}},
		"duplicates":   {[]order{a1, a2, a1, a2, a3, a1}, findings{duplicates: 3}},
		"lost":         {[]order{a1, a2}, findings{lost: 1}},
		"invented":     {[]order{a1, a2, a3, {"b1", 2, 1}}, findings{invented: 1}},
		"out of order": {[]order{a1, a3, a2}, findings{disordered: 2}},
	} {
		l := &ledger{deliveries: map[string]int{}, first: map[int][]order{}}
		for _, o := range tt.arrived {
			value, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.record(o.ID, fmt.Sprint(o.Customer), value); err != nil {
				t.Fatal(err)
			}
		}
		if got := l.compare(committed); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}
