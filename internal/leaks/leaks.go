// Package leaks names the goroutines that other people's libraries leave behind, for tests that look for our own.
package leaks

import "go.uber.org/goleak"

// OfSarama are the goroutines of sarama that nobody can stop. The clock of its metrics. And, once in a while, a
// connection that was just about to be opened when its client was closed: Broker.Open claims the broker before it locks it, and
// Close, which looks in between, finds nothing to close. Whoever does not close a producer still leaves others of its goroutines.
func OfSarama() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		goleak.IgnoreTopFunction("github.com/IBM/sarama.(*Broker).responseReceiver"),
	}
}
