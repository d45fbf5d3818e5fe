package config

import (
	"context"
	"time"
)

// Finding is something that an operator wants to know of, and what to do about it.
type Finding struct {
	// Warning says that a promise may be weaker than it seems; otherwise one is broken, or nothing is delivered.
	Warning bool `json:"warning"`
	// Problem is what was found, and Cure what to do about it.
	Problem string `json:"problem"`
	Cure    string `json:"cure"`
}

// Examiner is implemented by a dialect that can be asked for more than [Dialect].Check tells: for settings of the database
// that weaken a promise, and for what can go wrong later.
type Examiner interface {
	// Examine changes nothing. An error says that some of it could not be found out; what was found is returned all the same.
	Examine(ctx context.Context) ([]Finding, error)
}

// InboxExaminer is Examiner for the inbox that a dialect keeps ([core.InboxStore]), with or without an outbox beside it.
type InboxExaminer interface {
	// ExamineInbox changes nothing. retention is how long ids are to be remembered. An error says what could not be found out,
	// the database not being there included; what was found is returned all the same.
	ExamineInbox(ctx context.Context, retention time.Duration) ([]Finding, error)
}

// WaitingTopic is a topic that events go to.
type WaitingTopic struct {
	Name string
	// Largest is the size of the largest payload that was seen waiting for it, in bytes; 0 where none was.
	Largest int
}

// TopicExaminer is Examiner for a broker.
type TopicExaminer interface {
	// ExamineTopics examines the topics that events go to. It creates nothing and sends nothing. An error says what could not
	// be found out; what was found is returned all the same.
	ExamineTopics(ctx context.Context, topics []WaitingTopic) ([]Finding, error)
}
