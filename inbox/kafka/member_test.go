package kafka_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A second member joins under load, and the first leaves: the partitions change hands twice. Nothing is lost or happens twice, and
// each key's effects stay in order.
func TestPartitionsChangeHands(t *testing.T) {
	t.Parallel()
	const keys = 8
	w := newWorld(t, 4)
	group := w.topic + "_group"
	var ids []string
	round := func() {
		t.Helper()
		n := len(ids) / keys
		var msgs []core.Message
		for key := range keys {
			ids = append(ids, fmt.Sprintf("%d:%04d", key, n))
			msgs = append(msgs, core.Message{ID: ids[len(ids)-1], Key: fmt.Sprint(key)})
		}
		w.publish(t, msgs...)
	}
	// member runs a loop, and returns how many effects it has begun.
	member := func() (begun *atomic.Int64, stop func()) {
		begun = &atomic.Int64{}
		return begun, inboxtest.Running(t, w.loop(t, group, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
			begun.Add(1)
			return effect(ctx, tx, m)
		}))
	}
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	deadline := time.After(time.Minute)
	// load publishes until the member has begun a further effect.
	load := func(begun *atomic.Int64) {
		t.Helper()
		for before := begun.Load(); begun.Load() == before; {
			round()
			select {
			case <-pace.C:
			case <-deadline:
				t.Fatal("a member has had nothing to do for a minute")
			}
		}
	}
	first, leave := member()
	load(first)
	second, stop := member()
	load(second)
	round()
	leave()
	round()
	w.Await(t, len(ids))
	stop()
	w.ExpectOnce(t, ids...)
	t.Logf("result: %d messages, %d effects begun by the first member, %d by the second", len(ids), first.Load(), second.Load())

	rows, err := w.DB.QueryContext(t.Context(), `SELECT id FROM effects ORDER BY place`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	of := map[string][]string{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		key, _, _ := strings.Cut(id, ":")
		of[key] = append(of[key], id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for key, have := range of {
		if !slices.IsSorted(have) {
			t.Errorf("the effects of the key %s are out of order: %v", key, have)
		}
	}
}

func TestTheClusterGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	proxy := servers.Proxy(t, w.address, conformance.ProxyConfig{})
	log, config := inboxtest.NewLog(), w.config(w.topic+"_group")
	config.Logger = log.Logger()
	config.Dialer = &kafkago.Dialer{Timeout: 10 * time.Second, DialFunc: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, proxy.Addr())
	}}
	proxy.Down()
	w.publish(t, core.Message{ID: "a"})
	stop := inboxtest.Running(t, w.loopWith(t, config, effect))
	log.Await(t, "not joined") // from the start
	proxy.Up()
	w.Await(t, 1)
	seen := len(log.With("not joined"))
	proxy.Down()
	w.publish(t, core.Message{ID: "b"})
	for len(log.With("not joined")) == seen { // and in the midst of it: the next heartbeat fails
		log.AwaitMore(t)
	}
	proxy.Up()
	w.Await(t, 2)
	w.awaitCommitted(t, config.Group, 1, 2)
	stop()
	w.ExpectOnce(t, "a", "b")
}

// Offsets that were not committed are not forgotten: the group is joined again, and the messages found in the inbox. The cluster is
// a fake, since a real one gives no such answer to order.
func TestACommitThatFailsIsMadeUpFor(t *testing.T) {
	t.Parallel()
	const offsetCommit, group = 8, "billing"
	w, cluster := newFakeWorld(t, "orders")
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{offsetCommit}, Err: kerr.CoordinatorLoadInProgress, Count: 1})
	w.publishNumbered(t, 0, 3)
	log, config := inboxtest.NewLog(), w.config(group)
	config.Logger = log.Logger()
	stop := inboxtest.Running(t, w.loopWith(t, config, effect))
	log.Await(t, "offsets were not committed")
	w.awaitCommitted(t, group, 1, 3)
	stop()
	w.ExpectOnce(t, "m0", "m1", "m2")
}

// A Dialer brings TLS and a login, and each connection uses it: the group's, the readers', and those that ask for offsets.
func TestADialerWithTLSAndSASL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	address, authority := servers.KafkaSASL(t)
	pem, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s has no certificate", authority)
	}
	w.publish(t, core.Message{ID: "a"})
	log, config := inboxtest.NewLog(), w.config(w.topic+"_group")
	config.Brokers, config.Logger = []string{address}, log.Logger()
	dialer := kafkago.Dialer{Timeout: 10 * time.Second, TLS: &tls.Config{RootCAs: pool}}
	run := func(password string) (stop func()) {
		own := dialer
		own.SASLMechanism = plain.Mechanism{Username: "lockstep", Password: password}
		config.Dialer = &own
		return inboxtest.Running(t, w.loopWith(t, config, effect))
	}
	stop := run("swordfish")
	if line := log.Await(t, "not joined"); strings.Contains(line, "swordfish") {
		t.Errorf("logged %q, with the password", line)
	}
	stop()
	w.ExpectOnce(t)
	stop = run("lockstep")
	w.Await(t, 1)
	stop()
	w.ExpectOnce(t, "a")
}
