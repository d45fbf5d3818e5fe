// Package headers keeps a message's headers in a JSON column.
package headers

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Encode returns h as a JSON object. It is a string, not bytes, because drivers send bytes as binary, which JSON
// columns refuse.
func Encode(h map[string]string) (string, error) {
	if len(h) == 0 {
		return "{}", nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		return "", fmt.Errorf("encode headers: %w", err)
	}
	return string(bytes.TrimSpace(b.Bytes())), nil
}

// Decode returns what a JSON object holds; nil where it is empty. The table is open to programs in any language, so a
// value that is not a string is no error: it is passed on as the JSON text that it is.
func Decode(object []byte) (map[string]string, error) {
	if string(object) == "{}" {
		return nil, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(object, &raw); err != nil {
		return nil, fmt.Errorf("decode headers: %w", err)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	h := make(map[string]string, len(raw))
	for name, value := range raw {
		var s string
		if json.Unmarshal(value, &s) != nil {
			s = string(value)
		}
		h[name] = s
	}
	return h, nil
}

// Undecodable is the name of the header that holds a column's text where that is not a JSON object.
const Undecodable = "lockstep-undecodable-headers"

// OfRow is Decode for a row that a relay or an operator reads. A table is open to programs in any language, and one row
// that cannot be decoded must hold back nobody: its message goes out with the column's text as its one header, so that
// nothing of it is lost.
func OfRow(column []byte) map[string]string {
	h, err := Decode(column)
	if err != nil {
		return map[string]string{Undecodable: string(column)}
	}
	return h
}

// Size is the bytes of all names and values.
func Size(h map[string]string) int {
	n := 0
	for name, value := range h {
		n += len(name) + len(value)
	}
	return n
}
