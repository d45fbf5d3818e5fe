package conformance

import "testing"

func TestMemoryAndRecorder(t *testing.T) {
	for name, config := range map[string]ClientConfig{"minimal": {}, "key ordered with terms": {KeyOrdered: true, Terms: true}} {
		t.Run(name, func(t *testing.T) {
			TestPair(t, func(*testing.T) DialectFixture { return MemoryFixture(NewMemory(MemoryConfig{})) }, func(t *testing.T) BrokerFixture {
				r := &Recorder{}
				t.Cleanup(func() {
					if errs := r.Misuse(); errs != nil {
						t.Error(errs)
					}
				})
				return RecorderFixture(r, r.Client(config))
			})
		})
	}
}
