package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Line is where it stands in the file, from 1; 0 where it is not of the file.
	Line int
	// Field is the path of the setting, as in outboxes[0].database; empty for the file as a whole.
	Field string
	// Text says what is wrong and what would be right. It holds no secret.
	Text string
}

// Error is everything that is wrong with a configuration.
type Error struct {
	// File is the file's name; empty where there is none.
	File string
	// Problems are ascending by line.
	Problems []Problem
}

func (e *Error) Error() string {
	var lines []string
	for _, p := range e.Problems {
		var where []string
		if p.Line > 0 {
			where = append(where, fmt.Sprintf("%s:%d", e.File, p.Line))
		}
		if p.Field != "" {
			where = append(where, p.Field)
		}
		lines = append(lines, strings.Join(append(where, p.Text), ": "))
	}
	return "the configuration is not usable:\n  " + strings.Join(lines, "\n  ")
}

// collector gathers problems.
type collector struct {
	file  string
	lines map[string]int // of each setting, by path
	found []Problem

	expanded map[*yaml.Node]bool // scalars that have their secrets
}

// add notes a problem with the setting at path. Where that is not in the file, the nearest one around it tells the line.
func (c *collector) add(path, format string, args ...any) {
	line := 0
	for p := path; line == 0 && p != ""; {
		line = c.lines[p]
		p = p[:max(0, strings.LastIndexAny(p, ".["))]
	}
	c.at(line, path, format, args...)
}

func (c *collector) at(line int, path, format string, args ...any) {
	c.found = append(c.found, Problem{Line: line, Field: path, Text: fmt.Sprintf(format, args...)})
}

func (c *collector) err() error {
	if len(c.found) == 0 {
		return nil
	}
	slices.SortStableFunc(c.found, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	var once []Problem // a broker that several outboxes use is wrong once
	for _, p := range c.found {
		if !slices.Contains(once, p) {
			once = append(once, p)
		}
	}
	return &Error{File: c.file, Problems: once}
}
