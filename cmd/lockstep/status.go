package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

// outboxStatus is an outbox as status prints it.
type outboxStatus struct {
	Outbox       string    `json:"outbox"`
	ID           string    `json:"id"`
	Pending      countJSON `json:"pending"`
	OldestAge    float64   `json:"oldest_pending_seconds"`
	Delayed      countJSON `json:"delayed"`
	Dead         countJSON `json:"dead_letters"`
	BlockedKeys  int64     `json:"blocked_keys"`
	PausedTopics []string  `json:"paused_topics"`
	Lease        leaseJSON `json:"lease"`
}

// outboxFailed is one of which nothing can be told, and why.
type outboxFailed struct {
	Outbox string `json:"outbox"`
	Error  string `json:"error"`
}

type countJSON struct {
	N     int64 `json:"n"`
	Exact bool  `json:"exact"`
}

func (c countJSON) String() string {
	if c.Exact {
		return fmt.Sprint(c.N)
	}
	return fmt.Sprintf("about %d", c.N)
}

type leaseJSON struct {
	Held    bool   `json:"held"`
	Holder  string `json:"holder,omitempty"`
	Epoch   int64  `json:"epoch"`
	Unclean int    `json:"unclean"`
}

func (l leaseJSON) String() string {
	switch {
	case l.Held:
		return fmt.Sprintf("held by %s (epoch %d)", l.Holder, l.Epoch)
	case l.Holder != "":
		return fmt.Sprintf("expired: %s held it (epoch %d)", l.Holder, l.Epoch)
	}
	return "free: no relay runs"
}

func newStatus() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show what each outbox holds, and who works on it", Args: noArgs}
	s := databaseSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		value := struct {
			Outboxes []outboxStatus `json:"outboxes"`
			Failed   []outboxFailed `json:"failed,omitempty"`
		}{Outboxes: []outboxStatus{}}
		var failed []error
		err := s.each(cmd, false, func(ctx context.Context, o *config.Outbox) error {
			status, err := statusOf(ctx, o)
			if err != nil { // of the others it is told all the same
				failed = append(failed, fmt.Errorf("outbox %s: %w", o.Name, err))
				value.Failed = append(value.Failed, outboxFailed{o.Name, err.Error()})
				return ctx.Err()
			}
			value.Outboxes = append(value.Outboxes, status)
			return nil
		})
		if err != nil {
			return err
		}
		return errors.Join(append([]error{s.print(cmd, value, func(p *printer) {
			for _, o := range value.Outboxes {
				o.print(p)
			}
		})}, failed...)...)
	}
	return cmd
}

func statusOf(ctx context.Context, o *config.Outbox) (outboxStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, examineWithin)
	defer cancel()
	stats, lease, err := readOutbox(ctx, o.Dialect)
	if err != nil {
		return outboxStatus{}, err
	}
	paused, err := pausedTopics(ctx, core.NewOperator(o.Dialect), 1000)
	if err != nil {
		return outboxStatus{}, err
	}
	return outboxStatus{
		Outbox: o.Name, ID: lease.Outbox, Pending: countJSON(stats.Pending), OldestAge: stats.OldestAge.Seconds(),
		Delayed: countJSON(stats.Delayed), Dead: countJSON(stats.Dead), BlockedKeys: stats.BlockedKeys, PausedTopics: paused,
		Lease: leaseJSON{Held: !lease.Expired, Holder: lease.Holder, Epoch: lease.Epoch, Unclean: lease.Unclean},
	}, nil
}

func (o outboxStatus) print(p *printer) {
	p.row("outbox", o.Outbox)
	p.row("  pending", o.Pending)
	if o.Pending.N > 0 {
		p.row("  oldest", time.Duration(o.OldestAge*float64(time.Second)).Round(time.Second))
	}
	p.row("  delayed", o.Delayed)
	p.row("  dead letters", o.Dead)
	p.row("  blocked keys", o.BlockedKeys)
	for _, topic := range o.PausedTopics {
		p.row("  paused topic", topic)
	}
	p.row("  lease", o.Lease)
}

// blockedKeys reads blocked keys and paused topics in pages, at most limit.
func blockedKeys(ctx context.Context, op *core.Operator, limit int) (all []core.BlockedKey, err error) {
	const page = 1000
	for last := (core.BlockedKey{}); len(all) < limit; {
		keys, err := op.Blocked(ctx, last.Topic, last.Key, min(page, limit-len(all)))
		if err != nil || len(keys) == 0 {
			return all, err
		}
		all = append(all, keys...)
		last = keys[len(keys)-1]
	}
	return all, nil
}

// pausedTopics finds them among any number of blocked keys, a page at a time: a topic's pause comes before its keys, so that
// the keys that are left where a page ends are passed over.
func pausedTopics(ctx context.Context, op *core.Operator, page int) ([]string, error) {
	pastKeys := strings.Repeat(string(unicode.MaxRune), core.MaxKeyBytes)
	paused := []string{}
	for after := ""; ; {
		afterKey := pastKeys
		if after == "" {
			afterKey = ""
		}
		keys, err := op.Blocked(ctx, after, afterKey, page)
		if err != nil {
			return nil, err
		}
		for _, b := range keys {
			if isPause(b) {
				paused = append(paused, b.Topic)
			}
		}
		if len(keys) < page {
			return paused, nil
		}
		after = keys[len(keys)-1].Topic
	}
}

func isPause(b core.BlockedKey) bool { return b.Key == "" && b.Position == 0 }
