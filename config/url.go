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

// Parse returns the URL with its secrets. Its errors don't hold them. Several hosts, separated by commas, each with a port
// or without, are its Host.
func (u URL) Parse() (*url.URL, error) {
	text, hosts := cutHosts(u.text)
	parsed, err := url.Parse(text)
	if err == nil && hosts != "" {
		parsed.Host = hosts
	}
	if err != nil {
		return nil, errors.New("is not a URL: write scheme://user:password@host/…, and percent-encode special characters in user and password")
	}
	if parsed.Scheme == "" {
		return nil, errors.New("has no scheme: write it as in postgres://host/database or kafka://host:9092")
	}
	return parsed, nil
}

// cutHosts puts one host in the place of several, of which net/url reads only some.
func cutHosts(text string) (one, hosts string) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return text, ""
	}
	end := strings.IndexAny(rest+"/", "/?#")
	authority := rest[:end]
	at := strings.LastIndex(authority, "@") + 1
	if hosts = authority[at:]; !strings.Contains(hosts, ",") || strings.ContainsAny(hosts, " %\"<>\\^`{|}") {
		return text, ""
	}
	return scheme + "://" + authority[:at] + "hosts" + rest[end:], hosts
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
