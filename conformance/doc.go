// Package conformance tests a [core.Dialect] or a [core.Broker], ours or anybody's, against the promises of core.
//
// A check is data: an id, the sentence it enforces, and a function. Each check runs as a subtest on a fixture of its
// own, in a fixed order, and prints its sentence when it fails. An adapter's test is a few lines:
//
//	func TestConformance(t *testing.T) {
//		conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture { … })
//	}
//
// A check belongs to an ability where not every adapter has it (a database with several writers, SQL, key locks); it is
// skipped, by name, where the fixture does not have it. Each check is shown to find something: the package's own tests
// hold broken dialects, and name the checks that catch each.
//
// The package also holds what the engine, and whoever embeds it, is tested with: [Memory], a database in memory whose
// connections break, whose commits come late and whose tail is lost on demand; [Recorder], a broker in memory that
// records what it stored and goes wrong on demand; and [Flaky], which makes any broker fail at random. Memory and
// Recorder start no goroutines, and under testing/synctest repeat a schedule exactly.
package conformance
