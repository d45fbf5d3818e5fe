package inboxtest

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// Log is what a loop has logged.
type Log struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed, and replaced, with each line
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{more: make(chan struct{})} }

// Logger returns a logger that writes to l.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Write implements io.Writer for one line at a time.
func (l *Log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	close(l.more)
	l.more = make(chan struct{})
	return len(line), nil
}

// With returns the lines that contain text.
func (l *Log) With(text string) []string {
	lines, _ := l.with(text)
	return lines
}

func (l *Log) with(text string) (lines []string, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines, l.more
}

// Await returns the first line that contains text, once there is one.
func (l *Log) Await(t testing.TB, text string) string {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		lines, more := l.with(text)
		if len(lines) > 0 {
			return lines[0]
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("nothing was logged with %q in it: %q", text, l.With(""))
		}
	}
}

// AwaitMore returns when there is a further line.
func (l *Log) AwaitMore(t testing.TB) {
	t.Helper()
	_, more := l.with("")
	select {
	case <-more:
	case <-time.After(time.Minute):
		t.Fatalf("nothing more was logged: %q", l.With(""))
	}
}
