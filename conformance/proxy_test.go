package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// echo is a server that sends every line back, and counts them.
func echo(t *testing.T) (address string, lines *atomic.Int64) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	lines = &atomic.Int64{}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for scanner := bufio.NewScanner(c); scanner.Scan(); {
					lines.Add(1)
					fmt.Fprintln(c, scanner.Text())
				}
			}()
		}
	}()
	return listener.Addr().String(), lines
}

func ask(t *testing.T, c net.Conn, line string, limit time.Duration) (string, error) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

func proxyTo(t *testing.T, server string, config ProxyConfig) (p *Proxy, dial func() net.Conn) {
	t.Helper()
	p, err := NewProxy(server, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

func expectAnswer(t *testing.T, c net.Conn, line, want string) {
	t.Helper()
	if got, err := ask(t, c, line, 10*time.Second); err != nil || got != want+"\n" {
		t.Fatalf("%s: got %q, %v, want %s", line, got, err, want)
	}
}

func expectSilence(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if got, err := ask(t, c, line, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%s: got %q, %v, want silence", line, got, err)
	}
}

func expectClosed(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if got, err := ask(t, c, line, 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%s: got %q, %v, want a closed connection", line, got, err)
	}
}

func TestProxyFreezesAndCuts(t *testing.T) {
	server, _ := echo(t)
	p, dial := proxyTo(t, server, ProxyConfig{})
	c := dial()
	expectAnswer(t, c, "a", "a")
	p.Freeze()
	expectSilence(t, c, "b")
	expectSilence(t, dial(), "c")
	p.Thaw()
	expectAnswer(t, c, "d", "b") // which waited
	p.Cut()
	expectClosed(t, c, "e")
	expectAnswer(t, dial(), "f", "f")
}

func TestProxyIsDown(t *testing.T) {
	server, _ := echo(t)
	p, dial := proxyTo(t, server, ProxyConfig{})
	c := dial()
	expectAnswer(t, c, "a", "a")
	p.Down()
	expectClosed(t, c, "b")
	expectClosed(t, dial(), "c")
	p.Up()
	expectAnswer(t, dial(), "d", "d")
}

func TestProxySwallowsAnswers(t *testing.T) {
	server, lines := echo(t)
	p, dial := proxyTo(t, server, ProxyConfig{})
	c := dial()
	expectAnswer(t, c, "a", "a")
	p.Swallow()
	expectSilence(t, c, "b")
	if got := lines.Load(); got != 2 {
		t.Errorf("the server got %d lines, want the swallowed one's too", got)
	}
	p.Deliver()
	expectClosed(t, c, "c")
	expectAnswer(t, dial(), "d", "d")
}

func TestProxySwallowsOneAnswer(t *testing.T) {
	server, lines := echo(t)
	p, dial := proxyTo(t, server, ProxyConfig{})
	c := dial()
	p.SwallowAnswer(1)
	expectAnswer(t, c, "a", "a")
	expectClosed(t, c, "b")
	expectAnswer(t, dial(), "c", "c")
	if p.Swallowed() != 1 || lines.Load() != 3 {
		t.Errorf("%d answers to %d lines are swallowed, want 1 of 3", p.Swallowed(), lines.Load())
	}
}

func TestProxyCutsAfterSoManyBytes(t *testing.T) {
	server, _ := echo(t)
	p, dial := proxyTo(t, server, ProxyConfig{})
	for budget := range 9 { // "abc\n" goes there and comes back
		p.CutAfter(budget)
		answer, err := ask(t, dial(), "abc", 10*time.Second)
		if want := "abc\n"[:max(0, budget-4)]; answer != want || (err == nil) != (budget == 8) {
			t.Errorf("a cut at byte %d: got %q and %v, want %q", budget, answer, err, want)
		}
	}
	p.CutAfter(1)
	p.CutAfter(-1)
	expectAnswer(t, dial(), "abc", "abc")
}

func TestProxyDelays(t *testing.T) {
	const delay = 50 * time.Millisecond
	server, _ := echo(t)
	p, dial := proxyTo(t, server, ProxyConfig{})
	c := dial()
	p.Delay(delay)
	began := time.Now()
	expectAnswer(t, c, "a", "a")
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back took %v, want at least %v", took, 2*delay)
	}
}

func TestProxyRewrites(t *testing.T) {
	server, _ := echo(t)
	_, dial := proxyTo(t, server, ProxyConfig{Rewrite: func(piece []byte) {
		copy(piece, bytes.ReplaceAll(piece, []byte("here"), []byte("away")))
	}})
	expectAnswer(t, dial(), "come here", "come away")
}
