package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// power knows of a directory what a power cut would leave: of each file what it held when it was last synced, and of those
// the ones whose name was synced with the directory. Killing a process loses nothing of this kind, because the operating
// system keeps it: a fixture that only did that would find a broker good that never syncs.
type power struct {
	mu      sync.Mutex
	content map[string][]byte
	named   map[string]bool
}

// powerOf lets brokers on one directory run on power, and returns what cuts it, between two calls of each.
func powerOf(brokers ...*FileBroker) (cut func() error) {
	p := &power{content: map[string][]byte{}, named: map[string]bool{}}
	for _, broker := range brokers {
		p.runs(broker)
	}
	return func() error {
		for _, broker := range brokers {
			broker.mu.Lock()
		}
		err := p.cut(brokers[0].dir)
		for _, broker := range brokers {
			broker.mu.Unlock()
		}
		return err
	}
}

// runs lets broker run on p.
func (p *power) runs(broker *FileBroker) {
	really := broker.sync
	broker.sync = func(file *os.File) error {
		if err := really(file); err != nil {
			return err
		}
		return p.synced(file.Name())
	}
}

// synced remembers what is safe from now on.
func (p *power) synced(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if entries, err := os.ReadDir(path); err == nil {
		for _, entry := range entries {
			p.named[filepath.Join(path, entry.Name())] = true
		}
		return nil
	}
	content, err := os.ReadFile(path)
	p.content[path] = content
	return err
}

// cut leaves in dir what is safe.
func (p *power) cut(dir string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if p.named[path] {
			errs = append(errs, os.WriteFile(path, p.content[path], 0o600))
		} else {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// What the tutorial is proudest of has a check that sees it missing: a broker that confirms before its file, or the file's
// name, is safe.
func TestABrokerThatDoesNotSyncIsCaught(t *testing.T) {
	for name, isSynced := range map[string]func(isDir bool) bool{
		"the file": func(isDir bool) bool { return isDir },
		"its name": func(isDir bool) bool { return !isDir },
	} {
		t.Run("without syncing "+name, func(t *testing.T) {
			t.Parallel()
			report, _ := conformance.VerifyBroker(t.Context(), func(context.Context) (conformance.BrokerFixture, error) {
				broker := NewFileBroker(t.TempDir())
				f := fixture(broker, t.Errorf)
				sync := broker.sync
				broker.sync = func(file *os.File) error {
					info, err := file.Stat()
					if err != nil || !isSynced(info.IsDir()) {
						return err
					}
					return sync(file)
				}
				return f, nil
			})
			for _, c := range report.Checks {
				switch broken := c.ID == "broker-restart"; {
				case broken && (c.Status != conformance.Failed || c.TimedOut || !strings.Contains(c.Error, "were said to be stored")):
					t.Errorf("%s: got %s, %s, want that what was confirmed is lost", c.ID, c.Status, c.Error)
				case !broken && c.Status == conformance.Failed:
					t.Errorf("%s: got %s, %s", c.ID, c.Status, c.Error)
				}
			}
		})
	}
}

// A process is killed when it has synced a new file, and not yet its name. The one after it finds lines there, and must not take
// them for safe.
func TestTheNameIsSyncedByWhoeverWritesNext(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t.jsonl"), []byte(`{"id":"1","payload":"eA=="}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := NewFileBroker(dir)
	cut := powerOf(second)
	m := core.Message{ID: "2", Topic: "t", Payload: []byte("x")}
	if err := second.Publish(t.Context(), []core.Message{m}); err != nil {
		t.Fatal(err)
	}
	if err := cut(); err != nil {
		t.Fatal(err)
	}
	stored, err := second.Read("t")
	if err != nil || len(stored) == 0 || stored[len(stored)-1].ID != "2" {
		t.Errorf("after the power cut there are %v, %v, want what was confirmed", stored, err)
	}
}
