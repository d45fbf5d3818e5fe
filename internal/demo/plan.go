package demo

import (
	"fmt"
	"math/rand/v2"
)

// fault is what goes wrong while a customer places an order for the first time.
type fault string

const (
	noFault        fault = ""
	crash          fault = "crash"           // the service is killed between its two writes
	brokerAway     fault = "broker_away"     // the broker resets connections
	answerLost     fault = "answer_lost"     // the broker stores the event, and the connection dies before the answer
	statementFails fault = "statement_fails" // the order's product does not exist: INSERT fails
	commitFails    fault = "commit_fails"    // the order's customer does not exist: COMMIT fails
)

// faultShares is how many of a hundred orders meet each fault: far more than in real life, so that a short run shows
// all of them.
var faultShares = []struct {
	fault fault
	share int
}{{crash, 10}, {brokerAway, 8}, {answerLost, 6}, {statementFails, 6}, {commitFails, 6}}

// relayDeathShare is how many of a hundred faultless orders cost the relay its life.
const relayDeathShare = 14

// order is what a customer sends.
type order struct {
	ID       string `json:"order"`
	Customer string `json:"customer"`
	Product  string `json:"product"`
	Cents    int    `json:"cents"`
}

// plannedOrder is an order and what is to happen to it.
type plannedOrder struct {
	order
	fault fault
	// afterCommit: the Lockstep service has no gap between two writes, so a crash finds it before its COMMIT or after.
	afterCommit bool
	// relayDies: the relay is killed between the broker's answer and its acknowledgement. Only Lockstep has a relay.
	relayDies bool
	// retries: the customer tries again when the service fails.
	retries bool
}

const (
	knownCustomer = "customer-1"
	knownProduct  = "product-1"
)

// newPlan returns the same n orders for the same seed.
func newPlan(n int, seed uint64) []plannedOrder {
	random := rand.New(rand.NewPCG(seed, 0))
	plan := make([]plannedOrder, n)
	for i := range plan {
		p := plannedOrder{
			order: order{
				ID: fmt.Sprintf("order-%06d", i+1), Customer: knownCustomer, Product: knownProduct,
				Cents: 100 + random.IntN(20_000),
			},
			fault:       drawFault(random),
			afterCommit: random.IntN(2) == 0,
			relayDies:   random.IntN(100) < relayDeathShare,
			retries:     random.IntN(2) == 0,
		}
		p.relayDies = p.relayDies && p.fault == noFault
		switch p.fault {
		case statementFails:
			p.Product = "product-of-" + p.ID
		case commitFails:
			p.Customer = "customer-of-" + p.ID
		}
		plan[i] = p
	}
	return plan
}

func drawFault(random *rand.Rand) fault {
	at := random.IntN(100)
	for _, f := range faultShares {
		if at < f.share {
			return f.fault
		}
		at -= f.share
	}
	return noFault
}

// Faults counts the faults of a plan.
type Faults struct {
	Crash          int `json:"crash"`
	BrokerAway     int `json:"broker_away"`
	AnswerLost     int `json:"answer_lost"`
	StatementFails int `json:"statement_fails"`
	CommitFails    int `json:"commit_fails"`
	RelayCrash     int `json:"relay_crash"` // where there is a relay
}

func count(plan []plannedOrder) Faults {
	n := map[fault]int{}
	relay := 0
	for _, p := range plan {
		n[p.fault]++
		if p.relayDies {
			relay++
		}
	}
	return Faults{
		Crash: n[crash], BrokerAway: n[brokerAway], AnswerLost: n[answerLost],
		StatementFails: n[statementFails], CommitFails: n[commitFails], RelayCrash: relay,
	}
}
