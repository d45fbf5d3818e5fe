// Package matrix tests every combination of a database and a broker that Lockstep supports as a pair, on real servers. It
// is a module of its own, so that nobody who uses Lockstep downloads Watermill's Kafka client.
//
// `make matrix` writes what came of it into the README.
package matrix
