package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

const doctorHelp = `Find what keeps events from being delivered, or weakens a promise, and say what to do.

It looks at the database (version, privileges, tables, how positions are handed
out, durability, isolation, pooler, clock, vacuum, open transactions, a restore),
at what the outbox holds, and at the brokers (reachable, topics and exchanges
there, replicas, limits against the events that wait). It changes nothing and
sends nothing. Topics are those of events that wait, and those given by --topic.
What it cannot see is listed as unknown, as RabbitMQ's bindings are, and as what its
role in the database may not see, with what to grant. Nothing shows it that a database
is a clone: see docs/runbook.md.

--inbox is about the table of package inbox instead, in a consumer's database: that it
is there, is purged, and that the database keeps what it committed. It needs no outbox
and no broker.

Exit code: 0 when there is no problem, 1 when there is one. Warnings are not problems.`

// examined is what doctor found of one outbox.
type examined struct {
	Outbox   string           `json:"outbox"`
	ID       string           `json:"id,omitempty"`
	Findings []config.Finding `json:"findings"`
	// Unknown is what could not be found out.
	Unknown []string `json:"unknown"`
}

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{Use: "doctor", Short: "Find what is wrong, and say what to do about it", Long: doctorHelp, Args: noArgs}
	s := newSettings(cmd, "database", "broker", "prefix", "schema")
	cmd.Flags().StringVar(&s.outbox, "outbox", "", "`name` of the outbox, where there are several; all without it")
	s.jsonFlag(cmd)
	topics := cmd.Flags().StringSlice("topic", nil, "`topics` to ask the brokers for, beside those of events that wait")
	forInbox := cmd.Flags().Bool("inbox", false, "the inbox, and nothing of an outbox or a broker")
	retention := age(14 * 24 * time.Hour) // package inbox's default
	cmd.Flags().Var(&retention, "retention", "how long the inbox is to remember ids, as in 30d; with --inbox")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		flags := cmd.Flags()
		if *forInbox && (flags.Changed("broker") || flags.Changed("topic")) || !*forInbox && flags.Changed("retention") {
			return &usageError{errors.New("--inbox goes without --broker and --topic, and --retention goes with --inbox")}
		}
		value := struct {
			Outboxes []*examined `json:"outboxes"`
		}{[]*examined{}}
		problems := 0
		err := s.each(cmd, !*forInbox, func(ctx context.Context, o *config.Outbox) error {
			e := &examined{Outbox: o.Name, Findings: []config.Finding{}, Unknown: []string{}}
			if *forInbox {
				e.inbox(ctx, o, time.Duration(retention))
			} else {
				e.examine(ctx, o, *topics)
			}
			value.Outboxes = append(value.Outboxes, e)
			for _, f := range e.Findings {
				if !f.Warning {
					problems++
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		if err := s.print(cmd, value, func(p *printer) {
			for _, e := range value.Outboxes {
				e.print(p)
			}
		}); err != nil {
			return err
		}
		if problems > 0 {
			return fmt.Errorf("problems found: %d", problems)
		}
		return nil
	}
	return cmd
}

func (e *examined) print(p *printer) {
	p.line("%s", strings.TrimSpace("outbox "+e.Outbox+" "+e.ID))
	for _, f := range e.Findings {
		kind := "PROBLEM"
		if f.Warning {
			kind = "warning"
		}
		p.line("  %s  %s", kind, clean(f.Problem))
		if f.Cure != "" {
			p.line("     cure  %s", clean(f.Cure))
		}
	}
	for _, text := range e.Unknown {
		p.line("  unknown  %s", clean(text))
	}
	if len(e.Findings)+len(e.Unknown) == 0 {
		p.line("  nothing is wrong")
	}
}

func (e *examined) problem(cure, format string, args ...any) {
	e.Findings = append(e.Findings, config.Finding{Problem: fmt.Sprintf(format, args...), Cure: cure})
}

func (e *examined) warn(cure, format string, args ...any) {
	e.Findings = append(e.Findings, config.Finding{Warning: true, Problem: fmt.Sprintf(format, args...), Cure: cure})
}

// examineWithin bounds the look at one database or broker.
const examineWithin = 20 * time.Second

func (e *examined) examine(ctx context.Context, o *config.Outbox, topics []string) {
	largest := map[string]int{} // by topic
	for _, topic := range topics {
		largest[topic] = 0
	}
	for _, m := range e.database(ctx, o) {
		largest[m.Topic] = max(largest[m.Topic], len(m.Payload))
	}
	var waiting []config.WaitingTopic
	for _, topic := range slices.Sorted(maps.Keys(largest)) {
		waiting = append(waiting, config.WaitingTopic{Name: topic, Largest: largest[topic]})
	}
	e.brokers(ctx, o, waiting)
}

// database examines the database and what is in the outbox, and returns some of the events that wait.
func (e *examined) database(ctx context.Context, o *config.Outbox) []core.Message {
	ctx, cancel := context.WithTimeout(ctx, examineWithin)
	defer cancel()
	if err := o.Dialect.Check(ctx); err != nil {
		e.setup(err)
		return nil
	}
	if examiner, ok := core.Ability[config.Examiner, core.Dialect](o.Dialect); ok {
		found, err := examiner.Examine(ctx)
		e.Findings = append(e.Findings, found...)
		if err != nil {
			e.Unknown = append(e.Unknown, err.Error())
		}
	}
	stats, lease, err := readOutbox(ctx, o.Dialect)
	if err != nil {
		e.problem("see whether the database answers", "the outbox cannot be read: %v", err)
		return nil
	}
	e.ID = lease.Outbox
	e.contents(stats, lease)
	waiting, err := firstWaiting(ctx, o.Dialect)
	if err != nil {
		e.Unknown = append(e.Unknown, err.Error())
	}
	return waiting
}

// inbox examines an inbox. There is little to look at, so that what cannot be found out is a problem.
func (e *examined) inbox(ctx context.Context, o *config.Outbox, retention time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, examineWithin)
	defer cancel()
	examiner, ok := core.Ability[config.InboxExaminer, core.Dialect](o.Dialect)
	if !ok {
		e.Unknown = append(e.Unknown, "the inbox: its adapter does not know how to look at one")
		return
	}
	found, err := examiner.ExamineInbox(ctx, retention)
	e.Findings = append(e.Findings, found...)
	if err != nil {
		e.problem("see whether the server runs, whether the URL names it, and whether its user may log in and read the inbox", "the inbox cannot be examined: %v", err)
	}
}

// setup takes apart what a dialect's Check said: what is wrong may be several things, and what joins them be
// wrapped, so that it is done layer by layer.
func (e *examined) setup(err error) {
	if setup, ok := err.(*core.SetupError); ok { //nolint:errorlint // layer by layer, as it says
		e.problem(setup.Cure, "%s", setup.Problem)
		return
	}
	var setup *core.SetupError
	if !errors.As(err, &setup) {
		e.problem("see whether the server runs, whether the URL names it, and whether its user may log in", "the database cannot be reached: %v", err)
		return
	}
	switch wrapper := err.(type) { //nolint:errorlint // layer by layer
	case interface{ Unwrap() []error }:
		for _, one := range wrapper.Unwrap() {
			e.setup(one)
		}
	case interface{ Unwrap() error }:
		e.setup(wrapper.Unwrap())
	default: // its As method knows
		e.problem(setup.Cure, "%s", setup.Problem)
	}
}

func (e *examined) contents(stats core.Stats, lease core.Lease) {
	if lease.Expired {
		e.warn("start `lockstep relay`, or see its log", "no relay holds the lease: nothing is delivered")
	}
	if stats.OldestAge > time.Minute {
		e.warn("see `lockstep held list`, and the relay's log", "the oldest of %d pending events is %v old", stats.Pending.N, stats.OldestAge.Round(time.Second))
	}
	if stats.Dead.N > 0 {
		e.warn("see `lockstep dead list`, then retry or drop them", "%d dead letters wait, and block %d keys", stats.Dead.N, stats.BlockedKeys)
	}
	if lease.Unclean >= 3 {
		e.warn("see whether the relay runs out of memory, or is killed by its health check; the event named by its log may be what does it",
			"the last %d relays were killed before they delivered anything", lease.Unclean)
	}
}

// firstWaiting reads some of what waits.
func firstWaiting(ctx context.Context, dialect core.Dialect) ([]core.Message, error) {
	s, err := dialect.Open(ctx)
	if err != nil {
		return nil, err
	}
	page, err := s.Fetch(ctx, core.FetchRequest{Limit: 5000, MaxBytes: 16 << 20})
	var waiting []core.Message
	for _, r := range page.Records {
		waiting = append(waiting, r.Message)
	}
	return waiting, errors.Join(err, s.Close())
}

func (e *examined) brokers(ctx context.Context, o *config.Outbox, topics []config.WaitingTopic) {
	for _, name := range slices.Sorted(maps.Keys(o.Brokers)) {
		broker, routed := o.Brokers[name], topicsOf(o, name, topics)
		var names []string
		for _, t := range routed {
			names = append(names, t.Name)
		}
		func() {
			ctx, cancel := context.WithTimeout(ctx, examineWithin)
			defer cancel()
			if asked, ok := core.Ability[checker](broker); ok {
				if err := asked.Check(ctx, names...); err != nil {
					for line := range strings.Lines(err.Error()) {
						e.problem("see whether it runs, whether the URL, the user and the authority are right, and create what is missing", "broker %s: %s", name, strings.TrimSpace(line))
					}
					if asked.Check(ctx) != nil {
						return // there is nothing to look at; what is wrong with one topic hides nothing of the others
					}
				}
			}
			if examiner, ok := core.Ability[config.TopicExaminer](broker); ok {
				found, err := examiner.ExamineTopics(ctx, routed)
				e.Findings = append(e.Findings, found...)
				if err != nil {
					e.Unknown = append(e.Unknown, fmt.Sprintf("broker %s: %v", name, err))
				}
			}
		}()
	}
}

// topicsOf returns those that are routed to a broker.
func topicsOf(o *config.Outbox, name string, topics []config.WaitingTopic) (routed []config.WaitingTopic) {
	for _, topic := range topics {
		if o.RouteOf(topic.Name) == name {
			routed = append(routed, topic)
		}
	}
	return routed
}
