// Package conformance tests a [core.Dialect] or a [core.Broker], ours or anybody's, against the promises of core.
//
// A check is data: an id, the sentence it enforces, and a function. Each check runs as a subtest on a fixture of its
// own, in a fixed order, and prints its sentence when it fails. An adapter's test is a few lines:
//
//	func TestConformance(t *testing.T) {
//		conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture { … })
//	}
package conformance
