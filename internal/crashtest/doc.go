// Package crashtest holds the tests of the engine's promises on real servers: PostgreSQL, MySQL, MariaDB or SQLite to
// Kafka or RabbitMQ, with relays as processes of their own that are killed, stopped and replaced, and with servers that
// are killed and frozen under them.
//
// Its parts are the shop (writers that commit orders with their events), the relay (a child process of the test program
// that reports what it does, and stops at the point where it is to be killed), the ledger (what the topic holds, held
// against what the database holds), and the site, which is all of that for one test.
package crashtest
