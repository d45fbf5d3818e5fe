// Package conformance tests a [core.Dialect], a [core.Broker], or a pair of them, ours or anybody's, against the promises
// of package core. This page is what the author of an adapter needs; examples/custom-broker and examples/custom-dialect are
// two small ones, written to be read beside it.
//
// # A test of your adapter
//
// The contract is the documentation of the interfaces in core: what a method must do has a check here, which prints the
// sentence when it fails. An adapter's whole test is a function that opens an empty fixture; it is called once for each
// check:
//
//	func TestConformance(t *testing.T) {
//		conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
//			dialect, db := open(t) // on an outbox of its own
//			return conformance.SQLFixture(dialect, db)
//		})
//	}
//
//	func TestConformance(t *testing.T) {
//		conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
//			broker, topic := open(t) // with a topic of its own
//			return conformance.BrokerFixture{Broker: broker, Topic: topic, Read: …}
//		})
//	}
//
// [TestPair] takes both functions. It runs real relays from the one to the other while an application writes, does what
// harm the fixtures can do, and compares what a consumer finds in the topic with what was committed: nothing lost, nothing
// invented, each key in order. Test your dialect with a [Recorder] as the broker first, and your broker with a [Memory] as
// the dialect; they are fast, and blame is easy to place.
//
// [TestInbox] takes the fixtures of TestDialect, and tests what a consumer's database needs of a dialect (core.InboxStore).
//
// [VerifyDialect], [VerifyInbox], [VerifyBroker] and [VerifyPair] run the same checks without package testing, against a staging
// environment for instance. They create and drop a table of the application's own where the fixture has a DB.
//
// # What a fixture adds
//
// broker-fixture, dialect-fixture, inbox-fixture and pair-fixture test the fixture: a field that is missing, a topic that is not
// empty or a Read that does not wait would make every other check say something else than what is wrong. Each thing that an adapter, or its fixture, can do adds checks. None takes a check away, and there is no list of known
// failures. What was not exercised is skipped by name, and says what it would need.
//
//	the dialect is a core.KeyLocker, Listener, Notifier,     their contracts
//	ArchiveStore, InboxStore
//	DialectFixture.DB                                        how Enqueue uses database/sql; the application's own rows
//	DialectFixture.ConcurrentWriters                         gaps, late commits, who waits for whom
//	DialectFixture.Outage, Cut, LoseAnswers, Restart         the database away, connections broken, COMMIT without an answer,
//	                                                         kill -9 of the server
//	the broker is a core.KeyOrdered, KeyHasher, TermBroker,  their contracts
//	Pinger
//	BrokerFixture.OtherTopic, ReadOther                      messages of several topics in a call
//	BrokerFixture.Elsewhere                                  calls of two processes at the same time; TestPair alone has a
//	                                                         check for it
//	BrokerFixture.Outage, Freeze, Cut                        the message system away, silent (for a Pinger, too), connections
//	                                                         broken
//	BrokerFixture.Restart                                    kill -9 of the message system: what was confirmed is there
//	BrokerFixture.Delay                                      a slow message system; TestPair alone has checks for it
//	BrokerFixture.Poison                                     messages that are refused for good, and what is behind them
//
// Restart must lose what is not synced, as a power cut does, or at least what the server's process had to itself: otherwise
// an adapter passes that confirms what is not safe. examples/custom-broker has one for a broker without a server.
//
// A [Proxy] between the adapter and its server does most of the harm, to this fixture alone: f.Through(proxy).
//
// One duty of a core.Pinger is not asked: that after an error and then a nil no call uses a connection that was idle. A test of the
// adapter's own can, with Proxy.Strand. And a Pinger without Freeze is asked ping, and not ping-silence: it need not have asked anybody.
//
// # The report
//
// A suite returns a [Report]: what came of each check, and what that says of each of the eight promises. A promise is
// proven when checks of it passed, none failed, no check failed that is of no promise (see Rules below), and none is missing
// that it cannot do without, which are those that do the harm that it is about: without a way to break and to heal, an outage
// is not exercised, and never green. What was not exercised stands beside what was proven, and what passed beside what was
// not. Report has a String method and fields for JSON. A failure that is nothing but the end of a check's time says so
// (CheckResult.TimedOut): look first at the failures that are not.
//
// A database that is a file has one writer at a time, and sessions without a connection that could break;
// DialectFixture.NoServer says so, and no promise misses what needs them: a dialect's checks of ConcurrentWriters, and
// database-cut. Of a pair nothing is left out. pair-late-commit asks of such a database that the next writer waits, or is
// refused; and what breaks is a process. Begin the application's transactions in one of its own, and let Cut and LoseAnswers
// kill it, once before COMMIT and once before its answer; let Restart end all that have the file open, the last one with a
// transaction half written, as internal/matrix does for a file. Without that, pair-crash-before-commit,
// pair-lost-commit-answer and pair-database-restart are not exercised, and the promises that they are about are not proven.
//
// # Rules
//
// Which checks prove a promise is in the README's table. The others enforce a rule between adapter and engine on which all
// promises rest, or one of the inbox: while one of them fails, no promise of that report is proven. They are:
//
//	dialect  dialect-fixture round-trip enqueue-keeps-nothing enqueue-statement enqueue-error
//	dialect  fetch-limit fetch-max-bytes fetch-incarnation gaps-dead
//	dialect  acknowledge-many fail-noted fail-both bury-both
//	dialect  promote-due promote-fenced promote-generation promote-time promote-complete
//	dialect  lease-new lease-take lease-take-seen lease-renew lease-release
//	dialect  dead-filter dead-older dead-pages dead-retry-blocked dead-limit blocked-pages
//	dialect  pause pause-reports pause-listed pause-stays
//	dialect  stats retryable sessions-at-once lock-keys-order
//	dialect  archive-filter archive-pages replay-copies replay-pages
//	dialect  listen-begins listen-commit listen-ends notify-repeats notify-ends
//	broker   broker-fixture arguments-untouched later-term other-outbox
//	pair     pair-fixture pair-inbox pair-inbox-restart
//	inbox    inbox-fixture inbox-once inbox-same-transaction inbox-rollback inbox-savepoint inbox-atomic inbox-usable
//	inbox    inbox-bytewise inbox-migrate inbox-forget-age inbox-forget-limit inbox-waits inbox-others-go-on
//	inbox    inbox-race inbox-no-result inbox-answer-lost
//
// # Seeds
//
// TestPair makes random choices; a failure names their seed, and DialectFixture.Seed sets it. The timing is the machine's:
// a seed repeats what was done, and not when.
//
// # The fault kit
//
// [Memory] is a database in memory whose connections break, whose commits come late and whose tail is lost on demand.
// [Recorder] is a broker in memory that records what it stored, watches its caller, and goes wrong on demand. [Flaky] makes
// any broker fail at random, from a seed, and still tell the truth. [Proxy] cuts, freezes, delays and swallows whatever
// speaks TCP. Memory and Recorder start no goroutines, and under testing/synctest repeat a schedule exactly.
//
// # The suite is tested itself
//
// A check that cannot fail is worth nothing. The package's own tests hold dialects, brokers and pairs that are wrong in one
// way each, most of them ways in which real outboxes were wrong, and name the check that has to find each by what it does.
// Every check has at least one, but for pair-lost-commit-answer, whose is in the matrix of real servers. Pairs that look wrong and break no promise, such as two relays that both believe to own the
// outbox, have to pass.
package conformance
