package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
)

// readyWithin bounds the making of a topic.
const readyWithin = 30 * time.Second

// kafkaStream is a topic with as many partitions as there are lanes.
type kafkaStream struct {
	address, name string
	transport     *kafkago.Transport
	client        *kafkago.Client
}

func kafkaAt(address, name string) *kafkaStream {
	transport := &kafkago.Transport{MetadataTTL: time.Second}
	return &kafkaStream{address, name, transport, &kafkago.Client{Addr: kafkago.TCP(address), Timeout: 30 * time.Second, Transport: transport}}
}

func newKafka(ctx context.Context, address string) (stream, error) {
	k := kafkaAt(address, freshName())
	created, err := k.client.CreateTopics(ctx, &kafkago.CreateTopicsRequest{
		Topics: []kafkago.TopicConfig{{Topic: k.name, NumPartitions: lanes, ReplicationFactor: 1}},
	})
	if err == nil {
		err = created.Errors[k.name]
	}
	if err != nil {
		return nil, fmt.Errorf("create a Kafka topic: %w", err)
	}
	return k, k.await(ctx)
}

// await returns when every partition has a leader that says so.
func (k *kafkaStream) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ends, err := k.ends(ctx); err == nil && len(ends) == lanes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the partitions of a new Kafka topic have no leaders: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// ends are the partitions' next offsets.
func (k *kafkaStream) ends(ctx context.Context) (map[int]int64, error) {
	var ask []kafkago.OffsetRequest
	for p := range lanes {
		ask = append(ask, kafkago.LastOffsetOf(p))
	}
	answer, err := k.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{k.name: ask}})
	if err != nil {
		return nil, err
	}
	ends := map[int]int64{}
	for _, p := range answer.Topics[k.name] {
		if p.Error != nil {
			return nil, p.Error
		}
		ends[p.Partition] = p.LastOffset
	}
	return ends, nil
}

func (k *kafkaStream) place() Place  { return Place{Kafka, k.address} }
func (k *kafkaStream) topic() string { return k.name }

func (k *kafkaStream) drop(ctx context.Context) error {
	defer k.transport.CloseIdleConnections()
	deleted, err := k.client.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: []string{k.name}})
	if err == nil {
		err = deleted.Errors[k.name]
	}
	if err != nil {
		return fmt.Errorf("delete a Kafka topic: %w", err)
	}
	return nil
}

func (k *kafkaStream) broker() (core.Broker, func() error, error) {
	b, err := kafka.Open(kafka.Config{Brokers: []string{k.address}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}

// publisher is for the partition of the lane's number: a lane never waits for another one's partition.
func (k *kafkaStream) publisher(lane int) (publisher, error) {
	return &kafkaPublisher{kafkaAt(k.address, k.name), lane}, nil
}

type kafkaPublisher struct {
	*kafkaStream
	partition int
}

func (p *kafkaPublisher) publish(ctx context.Context, msgs []core.Message) error {
	records := make([]kafkago.Record, len(msgs))
	for i := range msgs {
		records[i] = kafkago.Record{Key: kafkago.NewBytes([]byte(msgs[i].Key)), Value: kafkago.NewBytes(msgs[i].Payload)}
	}
	answer, err := p.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic: p.name, Partition: p.partition, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records...),
	})
	if err != nil {
		return err
	}
	return answer.Error
}

func (p *kafkaPublisher) close() error {
	p.transport.CloseIdleConnections()
	return nil
}

func (k *kafkaStream) read(ctx context.Context, add func(key, payload []byte) error) error {
	ends, err := k.ends(ctx)
	if err != nil {
		return fmt.Errorf("read the ends of the partitions: %w", err)
	}
	for partition, end := range ends {
		if err := k.readPartition(ctx, partition, end, add); err != nil {
			return fmt.Errorf("read partition %d: %w", partition, err)
		}
	}
	return nil
}

func (k *kafkaStream) readPartition(ctx context.Context, partition int, end int64, add func(key, payload []byte) error) error {
	for next := int64(0); next < end; {
		answer, err := k.client.Fetch(ctx, &kafkago.FetchRequest{
			Topic: k.name, Partition: partition, Offset: next, MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second,
		})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			return err
		}
		for {
			record, err := answer.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if record.Offset < next {
				continue // a batch is answered whole
			}
			next = record.Offset + 1
			key, err := kafkago.ReadAll(record.Key)
			if err != nil {
				return err
			}
			payload, err := kafkago.ReadAll(record.Value)
			if err != nil {
				return err
			}
			if err := add(key, payload); err != nil {
				return err
			}
		}
	}
	return nil
}
