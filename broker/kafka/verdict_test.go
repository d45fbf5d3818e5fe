package kafka

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/brokertest"
)

var update = flag.Bool("update", false, "write the golden table anew")

var verdictNames = map[verdict]string{uncertain: "uncertain", misrouted: "misrouted", unavailable: "unavailable",
	unsuited: "unsuited", damaged: "damaged", unnameable: "unnameable", unrouted: "unrouted", disordered: "disordered",
	fenced: "fenced", misdated: "misdated"}

// TestVerdicts (rule 36) holds every error code that kafka-go has a name for against a table that was read by a human.
func TestVerdicts(t *testing.T) {
	var table strings.Builder
	for code := kafkago.Error(-1); code < 1000; code++ {
		if code == 0 || code > kafkago.FetchSessionTopicIDError && code.Title() == "" { // a few have no title
			continue
		}
		v := verdictOf(fmt.Errorf("produce: %w", code))
		class := "refused"
		if v.class() != nil {
			class = v.class().Error()
		}
		fmt.Fprintf(&table, "%d\t%s\t%s\t%s\n", code, code.Title(), verdictNames[v], class)
	}
	brokertest.Golden(t, "testdata/verdicts.tsv", table.String(), *update)
}

func TestVerdictsOfOtherErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want verdict
	}{
		{kafkago.Error(999), uncertain},
		{errors.New("anything"), uncertain},
		{io.EOF, uncertain},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, uncertain},
		{notSent(&net.OpError{Op: "dial", Err: errors.New("refused")}), unavailable},
		{notSent(io.ErrUnexpectedEOF), unavailable},
		{notSent(kafkago.RequestTimedOut), unavailable},
		{notSent(kafkago.SASLAuthenticationFailed), unavailable},
		{notSent(produce.NewError(protocol.NewErrNoLeader("t", 1))), unrouted},
		{notSent(nil), unavailable},
		{produce.NewError(protocol.NewErrNoLeader("t", 1)), unrouted},
		{produce.NewError(protocol.NewErrNoPartition("t", 1)), unrouted},
		{produce.NewError(protocol.NewErrNoTopic("t")), unrouted},
		{rawproduce.NewError(protocol.NewErrNoLeader("t", 1)), unrouted},
		{fmt.Errorf("an answer: %w", protocol.ErrNoTopic), uncertain},
	} {
		if got := verdictOf(tt.err); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.err, verdictNames[got], verdictNames[tt.want])
		}
	}
}

// A result that says "not stored" must not also look like a time-out: the engine takes that for "may be stored".
func TestAFailureHasOneClass(t *testing.T) {
	_, late := (&net.Dialer{Deadline: time.Unix(1, 0)}).Dial("tcp", "127.0.0.1:1")
	for _, cause := range []error{context.DeadlineExceeded, context.Canceled, late, kafkago.NotEnoughReplicas} {
		err := failure(core.ErrUnavailable, "test", cause)
		if !errors.Is(err, core.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("%v: want unavailable and nothing else", err)
		}
		if !strings.Contains(err.Error(), cause.Error()) {
			t.Errorf("%v does not tell %v", err, cause)
		}
	}
}

// A batch that was withdrawn is not sent, however late kafka-go comes for it; one that it came for is not withdrawn.
func TestAParcelIsSentOrWithdrawn(t *testing.T) {
	for name, send := range map[string]func(*parcel) ([]byte, error){
		"read":   func(p *parcel) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{p}) },
		"copied": func(p *parcel) ([]byte, error) { var b bytes.Buffer; _, err := p.WriteTo(&b); return b.Bytes(), err },
	} {
		p := &parcel{batch: bytes.NewReader([]byte("records"))}
		if got, err := send(p); string(got) != "records" || err != nil || p.withdraw() {
			t.Errorf("%s: got %q, %v, want all of it, and not to be withdrawn", name, got, err)
		}
		p = &parcel{batch: bytes.NewReader([]byte("records"))}
		if !p.withdraw() {
			t.Errorf("%s: a parcel that nobody came for cannot be withdrawn", name)
		}
		if got, err := send(p); len(got) > 0 || !errors.Is(err, errNotSent) {
			t.Errorf("%s, withdrawn: got %q, %v, want nothing", name, got, err)
		}
	}
}
