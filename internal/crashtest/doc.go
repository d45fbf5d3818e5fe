// Package crashtest holds the test that kills relays: PostgreSQL to Kafka, real processes, SIGKILL. Its parts are the
// shop (writers that commit orders with their events), the relay (a child process with a point at which it is
// killed), and the ledger (what the topic holds, held against what the database holds).
package crashtest
