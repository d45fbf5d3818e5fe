package config

import "strings"

// matches reports whether topic is what pattern says, in which each * stands for any characters.
func matches(pattern, topic string) bool {
	parts := strings.Split(pattern, "*")
	first, rest := parts[0], parts[1:]
	topic, found := strings.CutPrefix(topic, first)
	if !found || len(rest) == 0 {
		return found && topic == ""
	}
	last := len(rest) - 1
	for _, part := range rest[:last] {
		i := strings.Index(topic, part)
		if i < 0 {
			return false
		}
		topic = topic[i+len(part):]
	}
	return strings.HasSuffix(topic, rest[last])
}
