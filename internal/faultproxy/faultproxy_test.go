package faultproxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/internal/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that sends every line back.
func echo(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					fmt.Fprintln(c, lines.Text())
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func ask(t *testing.T, c net.Conn, line string, limit time.Duration) (string, error) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	return answer, err
}

func TestFreezeThawCut(t *testing.T) {
	p := faultproxy.New(t, echo(t))
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := ask(t, c, "a", 10*time.Second); err != nil || got != "a\n" {
		t.Fatalf("through the proxy: got %q, %v, want a", got, err)
	}
	p.Freeze()
	if got, err := ask(t, c, "b", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("frozen: got %q, %v, want silence", got, err)
	}
	late, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatalf("frozen: a new connection: got %v, want that it is accepted", err)
	}
	defer late.Close()
	if got, err := ask(t, late, "c", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("frozen: got %q, %v, want silence", got, err)
	}
	p.Thaw()
	if got, err := ask(t, c, "d", 10*time.Second); err != nil || got != "b\n" {
		t.Fatalf("thawed: got %q, %v, want b, which waited", got, err)
	}
	p.Cut()
	if got, err := ask(t, c, "e", 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("cut: got %q, %v, want a closed connection", got, err)
	}
}

func TestCutAfterCountsBytes(t *testing.T) {
	p := faultproxy.New(t, echo(t))
	for budget := range 9 { // "abc\n" goes there and comes back
		p.CutAfter(budget)
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		answer, err := ask(t, c, "abc", 10*time.Second)
		if want := "abc\n"[:max(0, budget-4)]; answer != want || (err == nil) != (budget == 8) {
			t.Errorf("a cut at byte %d: got %q and %v, want %q", budget, answer, err, want)
		}
		c.Close()
	}
	p.CutAfter(1)
	p.CutAfter(-1)
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if answer, err := ask(t, c, "abc", 10*time.Second); err != nil || answer != "abc\n" {
		t.Errorf("after it was called off: got %q and %v", answer, err)
	}
}

func TestSwallow(t *testing.T) {
	p := faultproxy.New(t, echo(t))
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := dial()
	p.Swallow(1)
	if got, err := ask(t, c, "a", 10*time.Second); err != nil || got != "a\n" {
		t.Errorf("the answer that may pass: got %q, %v, want a", got, err)
	}
	if got, err := ask(t, c, "b", 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || got != "" {
		t.Errorf("the answer that is swallowed: got %q, %v, want the connection's end", got, err)
	}
	if got, err := ask(t, dial(), "c", 10*time.Second); err != nil || got != "c\n" || p.Swallowed() != 1 {
		t.Errorf("after it: got %q, %v, %d swallowed, want c and 1", got, err, p.Swallowed())
	}
}
