// Package ormtest holds the tests that [core.Outbox] works inside the transactions of the libraries that people use on
// top of their database. It is a module of its own, so that nobody who uses Lockstep downloads them.
//
// Each library's test is the documentation's line for it, tried out: with Enqueue in the library's own transaction, and
// with the library on the transaction that InTx began.
package ormtest
