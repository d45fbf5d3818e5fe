package servers

import (
	"testing"
	"time"
)

// AnswerWithin changes the bound on the first contact until the test ends.
func AnswerWithin(t *testing.T, limit time.Duration) {
	before := answerWithin
	answerWithin = limit
	t.Cleanup(func() { answerWithin = before })
}
