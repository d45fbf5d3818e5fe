package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// age is a flag for a duration that may be in days: 90m, 12h, 30d.
type age time.Duration

func (a *age) String() string { return time.Duration(*a).String() }
func (*age) Type() string     { return "age" }

// Set implements pflag.Value.
func (a *age) Set(text string) error {
	if days, found := strings.CutSuffix(text, "d"); found {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 100_000 {
			return fmt.Errorf("write it as in 90m, 12h or 30d")
		}
		*a = age(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("write it as in 90m, 12h or 30d")
	}
	*a = age(d)
	return nil
}

// instant is a flag for a time: 2026-01-02T15:04:05Z, or an age, which is so long ago.
type instant time.Time

func (i *instant) String() string {
	if time.Time(*i).IsZero() {
		return ""
	}
	return time.Time(*i).Format(time.RFC3339)
}
func (*instant) Type() string { return "time" }

// Set implements pflag.Value.
func (i *instant) Set(text string) error {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		*i = instant(at)
		return nil
	}
	var before age
	if before.Set(text) != nil {
		return fmt.Errorf("write it as in 2026-01-02T15:04:05Z, or 90m, 12h or 30d for so long ago")
	}
	*i = instant(time.Now().Add(-time.Duration(before)))
	return nil
}
