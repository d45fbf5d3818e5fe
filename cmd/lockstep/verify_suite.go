package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/lockstep-go/lockstep/conformance"
)

// verifySuite is a suite of package conformance on what a scratch made.
type verifySuite struct {
	what, broker string
	checks       int
	begun        atomic.Int64
	run          func(ctx context.Context) conformance.Report
}

// progress tells how far it is.
func (s *verifySuite) progress(context.Context) string {
	return fmt.Sprintf("verify: %s: at check %d of %d", s.what, s.begun.Load(), s.checks)
}

// errCounting is what an open function returns that is called for the number of checks.
var errCounting = errors.New("counting")

func databaseSuite(b *scratch) *verifySuite {
	counted, _ := conformance.VerifyDialect(context.Background(), func(context.Context) (conformance.DialectFixture, error) {
		return conformance.DialectFixture{}, errCounting
	})
	s := &verifySuite{what: "database", checks: len(counted.Checks)}
	s.run = func(ctx context.Context) conformance.Report {
		report, _ := conformance.VerifyDialect(ctx, s.outbox(b)) // the report has the failures
		return report
	}
	return s
}

func brokerSuite(b *scratch, name string) *verifySuite {
	counted, _ := conformance.VerifyBroker(context.Background(), func(context.Context) (conformance.BrokerFixture, error) {
		return conformance.BrokerFixture{}, errCounting
	})
	s := &verifySuite{what: "broker " + name, broker: name, checks: len(counted.Checks)}
	s.run = func(ctx context.Context) conformance.Report {
		report, _ := conformance.VerifyBroker(ctx, func(ctx context.Context) (conformance.BrokerFixture, error) {
			s.begun.Add(1)
			return s.topic(ctx, b, true)
		})
		return report
	}
	return s
}

func pairSuite(b *scratch, name string) *verifySuite {
	counted, _ := conformance.VerifyPair(context.Background(),
		func(context.Context) (conformance.DialectFixture, error) {
			return conformance.DialectFixture{}, errCounting
		}, nil)
	s := &verifySuite{what: "pair with " + name, broker: name, checks: len(counted.Checks)}
	s.run = func(ctx context.Context) conformance.Report {
		report, _ := conformance.VerifyPair(ctx, s.outbox(b), func(ctx context.Context) (conformance.BrokerFixture, error) {
			return s.topic(ctx, b, false)
		})
		return report
	}
	return s
}

// outbox opens a check's outbox, and counts the check.
func (s *verifySuite) outbox(b *scratch) func(ctx context.Context) (conformance.DialectFixture, error) {
	return func(ctx context.Context) (conformance.DialectFixture, error) {
		if ctx.Err() != nil {
			return conformance.DialectFixture{}, context.Cause(ctx)
		}
		s.begun.Add(1)
		f, _, err := b.outbox(ctx)
		return f, err
	}
}

// topic opens a check's topic, or two.
func (s *verifySuite) topic(ctx context.Context, b *scratch, two bool) (conformance.BrokerFixture, error) {
	if ctx.Err() != nil {
		return conformance.BrokerFixture{}, context.Cause(ctx)
	}
	f, _, err := b.topic(ctx, s.broker, two)
	return f, err
}
