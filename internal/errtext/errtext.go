// Package errtext makes an error's text fit for a text column of any database.
package errtext

import (
	"strings"
	"unicode/utf8"
)

// maxBytes is enough for a person to find the reason, and keeps a broker that echoes the message from doubling it.
const maxBytes = 4 << 10

// Clean returns s as valid UTF-8 without NUL, cut to 4 KiB. A text that the database refused would keep the failure that
// it tells of from being noted, again and again.
func Clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= maxBytes {
		return s
	}
	end := maxBytes
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
