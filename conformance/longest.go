package conformance

import (
	"strings"

	"github.com/lockstep-go/lockstep/core"
)

// longest is a message whose id begins with id, and each of whose parts but the payload is as long as it may be, in letters of
// three bytes. The payload has every byte, and of its headers' names some are told apart by their case alone.
func longest(id string) core.Message {
	m := core.Message{
		ID: ofLength(id, core.MaxIDBytes), Topic: ofLength("topic ", core.MaxTopicBytes), Key: ofLength("key ", core.MaxKeyBytes),
		Headers: map[string]string{"Trace-ID": "a", "trace-id": "b", "TRACE-ID": "c", ofLength("name ", core.MaxHeaderNameBytes): ""},
		Payload: everyByte(),
	}
	left := core.MaxHeadersBytes - len("rest")
	for name, value := range m.Headers {
		left -= len(name) + len(value)
	}
	m.Headers["rest"] = ofLength("", left)
	return m
}

// ofLength is a text of n bytes that begins with start.
func ofLength(start string, n int) string {
	const letter = "漢"
	left := n - len(start)
	return start + strings.Repeat(letter, left/len(letter)) + strings.Repeat("x", left%len(letter))
}

// everyByte is each byte once.
func everyByte() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}
