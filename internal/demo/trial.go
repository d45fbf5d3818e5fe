package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// faultTimeout is how long a fault may take to meet its victim; a relay that has to be started again is the slowest.
const faultTimeout = 20 * time.Second

// stage is what all services share.
type stage struct {
	plan   []plannedOrder
	broker *memoryBroker
	dir    string         // for their files
	watch  func(Progress) // may be nil
}

// trial is one service's way through the plan.
type trial struct {
	config  childConfig
	broker  *memoryBroker
	service *serviceProcess
}

// try gives a service the plan's orders, one by one, and counts what is left of them.
func (g *stage) try(ctx context.Context, s service) (Result, error) {
	config := childConfig{
		Service:  s.name,
		Database: filepath.Join(g.dir, s.name+".db"),
		Broker:   g.broker.url,
		Deaths:   filepath.Join(g.dir, s.name+".deaths"),
	}
	if err := os.Mkdir(config.Deaths, 0o700); err != nil {
		return Result{}, err
	}
	if err := createShop(ctx, config.Database); err != nil {
		return Result{}, err
	}
	t := &trial{config: config, broker: g.broker, service: &serviceProcess{config: config}}
	progress := Progress{Title: s.title, Total: len(g.plan)}
	kills, err := t.run(ctx, g.plan, s.relay, func() {
		progress.Done++
		g.tell(progress)
	})
	if err != nil {
		return Result{}, err
	}
	result, err := countResult(ctx, config.Database, g.broker.log(s.name))
	if err != nil {
		return Result{}, err
	}
	result.Name, result.Title, result.Kills = s.name, s.title, kills
	progress.Result = &result
	g.tell(progress)
	return result, nil
}

func (g *stage) tell(p Progress) {
	if g.watch != nil {
		g.watch(p)
	}
}

// run starts the processes, places the orders, and returns when every process has ended.
func (t *trial) run(ctx context.Context, plan []plannedOrder, withRelay bool, placed func()) (Kills, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var relay *relayProcess
	if withRelay {
		config := t.config
		config.Relay = true
		var err error
		if relay, err = startRelay(ctx, config, cancel); err != nil {
			return Kills{}, err
		}
	}
	err := t.placeAll(ctx, plan, withRelay, placed)
	if err != nil {
		cancel(err) // kills what runs
	}
	err = errors.Join(err, t.service.stop())
	kills := Kills{Service: t.service.kills}
	if relay != nil {
		err = errors.Join(err, relay.stop())
		kills.Relay = relay.kills
	}
	if cause := context.Cause(ctx); cause != nil {
		return Kills{}, cause // the rest follows from it
	}
	return kills, err
}

func (t *trial) placeAll(ctx context.Context, plan []plannedOrder, withRelay bool, placed func()) error {
	for _, p := range plan {
		if withRelay && p.relayDies {
			if err := os.WriteFile(filepath.Join(t.config.Deaths, p.ID), nil, 0o600); err != nil {
				return err
			}
		}
		if err := t.place(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
		placed()
	}
	return nil
}

// place is one customer's visit: an attempt that meets the planned fault, and perhaps one that meets none.
func (t *trial) place(ctx context.Context, p plannedOrder) error {
	done, err := t.attempt(ctx, p)
	if err != nil || done || !p.retries {
		return err
	}
	answer, err := t.service.ask(ctx, request{Order: p.order, AddMissing: true})
	if err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("the second attempt failed, without a fault: %s", answer.Error)
	}
	return nil
}

// attempt places the order under its fault and reports whether the service said that it is done. It returns an error
// unless the fault took place.
func (t *trial) attempt(ctx context.Context, p plannedOrder) (done bool, err error) {
	var happened <-chan struct{}
	switch p.fault {
	case brokerAway:
		happened = t.broker.goAway()
		defer t.broker.comeBack()
	case answerLost:
		happened = t.broker.loseAnswer(p.ID)
	}
	answer, err := t.service.ask(ctx, request{Order: p.order, Fault: p.fault, AfterCommit: p.afterCommit})
	planned := p.fault == crash && errors.Is(err, errKilled) && ctx.Err() == nil
	if err != nil && !planned {
		return false, err
	}
	killed, failed := err != nil, answer.Error != ""
	switch p.fault {
	case noFault:
		if failed {
			return false, fmt.Errorf("failed without a fault: %s", answer.Error)
		}
	case crash:
		if !killed {
			return false, errors.New("was to kill the service, and it answered")
		}
	case brokerAway, answerLost:
		if err := await(ctx, happened); err != nil {
			return false, err
		}
	case statementFails, commitFails:
		if !failed {
			return false, errors.New("was to fail in the database, and was accepted")
		}
	}
	return !killed && !failed, nil
}

func await(ctx context.Context, happened <-chan struct{}) error {
	timeout := time.NewTimer(faultTimeout)
	defer timeout.Stop()
	select {
	case <-happened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timeout.C:
		return fmt.Errorf("nobody spoke to the broker within %v, so its fault did not take place", faultTimeout)
	}
}
