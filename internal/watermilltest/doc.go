// Package watermilltest holds the tests of broker/watermill against the publishers that people use with Watermill, and
// against its CQRS component. It is a module of its own, so that nobody who uses Lockstep downloads their clients.
package watermilltest
