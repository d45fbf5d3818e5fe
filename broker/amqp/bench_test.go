package amqp_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// BenchmarkPublish measures messages, of 300 bytes and 500 in a call, side by side in as many calls as a relay has lanes:
// through the adapter, and through amqp091 alone, in the same way.
//
//	go test ./broker/amqp -run '^$' -bench Publish -benchtime 100000x
func BenchmarkPublish(b *testing.B) {
	address := servers.RabbitMQ(b)
	for _, kind := range kinds {
		exchange := benchQueue(b, address, kind)
		for _, lanes := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/%d lanes/amqp091", kind, lanes), func(b *testing.B) {
				inLanes(b, lanes, exchange, func() func([]core.Message) error { return rawPublisher(b, address) })
			})
			b.Run(fmt.Sprintf("%s/%d lanes/adapter", kind, lanes), func(b *testing.B) {
				broker, err := amqp.Open(amqp.Config{URLs: []string{address}})
				if err != nil {
					b.Fatal(err)
				}
				defer broker.Close()
				inLanes(b, lanes, exchange, func() func([]core.Message) error {
					return func(msgs []core.Message) error { return broker.Publish(b.Context(), msgs) }
				})
			})
		}
	}
}

// inLanes publishes b.N messages.
func inLanes(b *testing.B, lanes int, exchange string, publisher func() func([]core.Message) error) {
	b.Helper()
	const batch = 500
	var running sync.WaitGroup
	calls := make(chan int, b.N/batch+1)
	for n := b.N; n > 0; n -= batch {
		calls <- min(n, batch)
	}
	close(calls)
	var publishers []func([]core.Message) error
	for range lanes {
		publish := publisher()
		if err := publish(numberedPayload(exchange, 1)); err != nil { // the connection is there
			b.Fatal(err)
		}
		publishers = append(publishers, publish)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, publish := range publishers {
		running.Go(func() {
			msgs := numberedPayload(exchange, batch)
			for n := range calls {
				if err := publish(msgs[:n]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

func numberedPayload(exchange string, n int) []core.Message {
	msgs := numbered(exchange, n)
	for i := range msgs {
		msgs[i].Payload = make([]byte, 300)
	}
	return msgs
}

// rawPublisher sends a batch and waits for its confirms, with the same properties and headers as the adapter.
func rawPublisher(b *testing.B, address string) func([]core.Message) error {
	b.Helper()
	conn, err := amqp091.Dial(address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	channel, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	if err := channel.Confirm(false); err != nil {
		b.Fatal(err)
	}
	return func(msgs []core.Message) error {
		confirms := make([]*amqp091.DeferredConfirmation, len(msgs))
		for i, m := range msgs {
			var err error
			confirms[i], err = channel.PublishWithDeferredConfirm(m.Topic, m.Key, true, false, amqp091.Publishing{
				MessageId: m.ID, DeliveryMode: amqp091.Persistent, Headers: amqp091.Table{amqp.KeyHeader: m.Key}, Body: m.Payload,
			})
			if err != nil {
				return err
			}
		}
		for _, confirm := range confirms {
			if !confirm.Wait() {
				return errors.New("not confirmed")
			}
		}
		return nil
	}
}

func benchQueue(b *testing.B, address, kind string) string {
	b.Helper()
	conn, err := amqp091.Dial(address)
	if err != nil {
		b.Fatal(err)
	}
	channel, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	name := "lockstep_bench_" + strings.ToLower(rand.Text())
	b.Cleanup(func() {
		if _, err := channel.QueueDelete(name, false, false, false); err != nil {
			b.Error(err)
		}
		if err := channel.ExchangeDelete(name, false, false); err != nil {
			b.Error(err)
		}
		conn.Close()
	})
	if err := channel.ExchangeDeclare(name, "topic", true, false, false, false, nil); err != nil {
		b.Fatal(err)
	}
	if _, err := channel.QueueDeclare(name, true, false, false, false, amqp091.Table{"x-queue-type": kind}); err != nil {
		b.Fatal(err)
	}
	if err := channel.QueueBind(name, "#", name, false, nil); err != nil {
		b.Fatal(err)
	}
	return name
}
