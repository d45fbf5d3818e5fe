package config

import (
	"errors"
	"net/url"
	"strings"
)

// URL is where a database or a broker is. Printing it shows no password.
type URL struct{ text string }

// NewURL returns the URL that text says.
func NewURL(text string) URL { return URL{text} }

// UnmarshalText takes any text: what is wrong with it is said by [URL.Parse], together with everything else.
func (u *URL) UnmarshalText(text []byte) error {
	u.text = string(text)
	return nil
}

// MarshalText returns what String does.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// IsZero reports whether there is none.
func (u URL) IsZero() bool { return u.text == "" }

// isName reports whether u is the name of a broker, which has no colon.
func (u URL) isName() bool { return u.text != "" && !strings.Contains(u.text, ":") }

// Parse returns the URL with its secrets. Its errors don't hold them.
func (u URL) Parse() (*url.URL, error) {
	parsed, err := url.Parse(u.text)
	if err != nil {
		return nil, errors.New("is not a URL: write scheme://user:password@host/…, and percent-encode special characters in user and password")
	}
	if parsed.Scheme == "" {
		return nil, errors.New("has no scheme: write it as in postgres://host/database or kafka://host:9092")
	}
	return parsed, nil
}

// String returns the URL without its secrets: the password, and the values of parameters that hold one by their name.
func (u URL) String() string {
	if u.isName() || u.text == "" {
		return u.text
	}
	parsed, err := u.Parse()
	if err != nil {
		return "(unreadable URL)"
	}
	query := parsed.Query()
	for name := range query {
		lower := strings.ToLower(name)
		for _, secret := range []string{"pass", "secret", "token", "key"} {
			if strings.Contains(lower, secret) {
				query.Set(name, "xxxxx")
			}
		}
	}
	parsed.RawQuery = query.Encode()
	return parsed.Redacted()
}
