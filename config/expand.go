package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// expand puts secrets in the place of ${…}. Its errors name them and don't show them.
func expand(text string, lookup func(string) (string, bool)) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		if strings.HasSuffix(before, "$") { // $${ is a plain ${, of which one dollar is written
			out.WriteString("{")
			text = rest
			continue
		}
		reference, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errors.New("has a ${ without its }: write $${ for a plain ${")
		}
		value, err := resolve(reference, lookup)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		text = after
	}
}

func resolve(reference string, lookup func(string) (string, bool)) (string, error) {
	kind, name, found := strings.Cut(reference, ":")
	if !found {
		kind, name = "env", reference
	}
	value, err := "", error(nil)
	switch kind {
	case "env", "url":
		set := false
		if value, set = lookup(name); !set {
			err = fmt.Errorf("needs the environment variable %s, which is not set", name)
		}
	case "file", "urlfile":
		var content []byte
		if content, err = os.ReadFile(name); err != nil {
			err = fmt.Errorf("needs a file: %w", err)
		}
		value = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	default:
		err = fmt.Errorf("has ${%s}: write ${NAME}, ${file:/path}, ${url:NAME} or ${urlfile:/path}", reference)
	}
	if strings.HasPrefix(kind, "url") {
		value = strings.ReplaceAll(url.QueryEscape(value), "+", "%20") // a plus is a space in queries only
	}
	return value, err
}
