// Package leaks names the goroutines that other people's libraries leave behind, for tests that look for our own.
package leaks

import "go.uber.org/goleak"

// OfSarama are the goroutines of sarama that nobody can stop. The clock of its metrics. And, once in a while, a
// connection that was just about to be opened when its client was closed: Broker.Open claims the broker before it locks it, and
// Close, which looks in between, finds nothing to close. And the clock of a circuit breaker that opened when a partition's
// leader could not be reached: it sleeps for ten seconds and ends, whatever is closed meanwhile. Whoever does not close a
// producer still leaves others of its goroutines.
func OfSarama() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		goleak.IgnoreTopFunction("github.com/IBM/sarama.(*Broker).responseReceiver"),
		goleak.IgnoreAnyFunction("github.com/eapache/go-resiliency/breaker.(*Breaker).timer"),
	}
}
