package amqp

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/brokertest"
)

var update = flag.Bool("update", false, "write the golden table anew")

var verdictNames = map[verdict]string{uncertain: "uncertain", unroutable: "unroutable", unavailable: "unavailable",
	away: "away", unsuited: "unsuited", forbidden: "forbidden"}

// codes are the reply codes of AMQP 0-9-1, with their names there.
var codes = []struct {
	code int
	name string
}{
	{311, "content-too-large"}, {312, "no-route"}, {313, "no-consumers"}, {320, "connection-forced"}, {402, "invalid-path"},
	{403, "access-refused"}, {404, "not-found"}, {405, "resource-locked"}, {406, "precondition-failed"}, {501, "frame-error"},
	{502, "syntax-error"}, {503, "command-invalid"}, {504, "channel-error"}, {505, "unexpected-frame"}, {506, "resource-error"},
	{530, "not-allowed"}, {540, "not-implemented"}, {541, "internal-error"},
}

// TestVerdicts holds every reply code against a table that was read by a human.
func TestVerdicts(t *testing.T) {
	var table strings.Builder
	for _, c := range codes {
		v := verdictOf(&amqp091.Error{Code: c.code, Server: true})
		class := "refused"
		if v.class() != nil {
			class = v.class().Error()
		}
		fmt.Fprintf(&table, "%d\t%s\t%s\t%s\n", c.code, c.name, verdictNames[v], class)
		delete(rest, c.code)
	}
	for code := range rest {
		t.Errorf("the verdict of %d is not in the table", code)
	}
	brokertest.Golden(t, "testdata/verdicts.tsv", table.String(), *update)
}

// rest are the codes with verdicts that TestVerdicts has not come across.
var rest = func() map[int]bool {
	all := map[int]bool{}
	for code := range verdicts {
		all[code] = true
	}
	return all
}()

func TestVerdictsOfOtherErrors(t *testing.T) {
	for _, tt := range []struct {
		err  amqp091.Error
		want verdict
	}{
		{amqp091.Error{Code: 999, Server: true}, uncertain},
		{amqp091.Error{Code: 200, Server: true}, uncertain},
		{amqp091.Error{Code: 501, Reason: "EOF"}, uncertain},
		{amqp091.Error{Code: 404, Reason: "by amqp091 itself"}, uncertain},
		{amqp091.Error{Code: 403, Server: true, Reason: "ACCESS_REFUSED - write access to topic 'x' in exchange 'e' in vhost '/' refused for user 'u'"}, forbidden},
		{amqp091.Error{Code: 403, Server: true, Reason: "ACCESS_REFUSED - write access to exchange 'e' in vhost '/' refused for user 'u'"}, away},
	} {
		if got := verdictOf(&tt.err); got != tt.want {
			t.Errorf("%v: got %s, want %s", &tt.err, verdictNames[got], verdictNames[tt.want])
		}
	}
}

// A result that says "not stored" must not also look like a time-out: the engine takes that for "may be stored".
func TestAFailureHasOneClass(t *testing.T) {
	_, late := (&net.Dialer{Deadline: time.Unix(1, 0)}).Dial("tcp", "127.0.0.1:1")
	for _, cause := range []error{context.DeadlineExceeded, context.Canceled, late, errRefused} {
		err := failure(core.ErrUnavailable, "test", cause)
		if !errors.Is(err, core.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("%v: want unavailable and nothing else", err)
		}
		if !strings.Contains(err.Error(), cause.Error()) {
			t.Errorf("%v does not tell %v", err, cause)
		}
	}
}
