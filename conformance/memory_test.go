package conformance

import "testing"

func TestMemory(t *testing.T) {
	for name, archive := range map[string]bool{"deletes": false, "archives": true} {
		t.Run(name, func(t *testing.T) {
			TestDialect(t, func(t *testing.T) DialectFixture {
				t.Parallel()
				return MemoryFixture(NewMemory(MemoryConfig{Archive: archive}))
			})
		})
	}
}
