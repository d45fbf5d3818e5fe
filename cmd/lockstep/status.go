package main

import (
	"context"
	"fmt"
	"time"

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
		}{}
		err := s.each(cmd, false, func(ctx context.Context, o *config.Outbox) error {
			status, err := statusOf(ctx, o)
			value.Outboxes = append(value.Outboxes, status)
			return err
		})
		if err != nil {
			return err
		}
		return s.print(cmd, value, func(p *printer) {
			for _, o := range value.Outboxes {
				o.print(p)
			}
		})
	}
	return cmd
}

func statusOf(ctx context.Context, o *config.Outbox) (outboxStatus, error) {
	stats, lease, err := readOutbox(ctx, o.Dialect)
	if err != nil {
		return outboxStatus{}, fmt.Errorf("outbox %s: %w", o.Name, err)
	}
	blocked, err := blockedKeys(ctx, core.NewOperator(o.Dialect), 10_000)
	if err != nil {
		return outboxStatus{}, fmt.Errorf("outbox %s: %w", o.Name, err)
	}
	paused := []string{}
	for _, b := range blocked {
		if isPause(b) {
			paused = append(paused, b.Topic)
		}
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

func isPause(b core.BlockedKey) bool { return b.Key == "" && b.Position == 0 }
