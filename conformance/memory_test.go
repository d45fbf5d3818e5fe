package conformance

import "testing"

func TestMemory(t *testing.T) {
	TestDialect(t, func(t *testing.T) DialectFixture {
		t.Parallel()
		return MemoryFixture(NewMemory(MemoryConfig{}))
	})
}
