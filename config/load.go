package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DefaultListen is where the program serves health, readiness and metrics unless it is told otherwise.
const DefaultListen = "127.0.0.1:9464"

// Source is where a configuration comes from. Its zero value is the environment alone.
type Source struct {
	// File is the path of a YAML file. Defaults to none.
	File string
	// Lookup finds environment variables. Defaults to os.LookupEnv.
	Lookup func(name string) (value string, set bool)
	// NoBroker accepts a configuration without a broker, for what works on the database alone.
	NoBroker bool
	// Flags are settings by their path in the file, as "broker" or "log.level", that win over the others.
	Flags map[string]string
}

// variables are the settings that the environment can make, by path.
var variables = []struct{ path, name string }{
	{"database", "LOCKSTEP_DATABASE"},
	{"broker", "LOCKSTEP_BROKER"},
	{"prefix", "LOCKSTEP_PREFIX"},
	{"schema", "LOCKSTEP_SCHEMA"},
	{"listen", "LOCKSTEP_LISTEN"},
	{"log.level", "LOCKSTEP_LOG_LEVEL"},
	{"log.format", "LOCKSTEP_LOG_FORMAT"},
}

// Load reads a configuration. The error is an *[Error] with all that is wrong with it, or says why the file cannot be read.
// What only an adapter finds wrong with a URL is said by [Registry.Open], and by [Registry.Load] at once.
func Load(source Source) (Config, error) {
	if source.Lookup == nil {
		source.Lookup = os.LookupEnv
	}
	c := &collector{file: source.File, lines: map[string]int{}, expanded: map[*yaml.Node]bool{}}
	root := &yaml.Node{Kind: yaml.MappingNode}
	if source.File != "" {
		content, err := os.ReadFile(source.File)
		if err != nil {
			return Config{}, fmt.Errorf("read the configuration: %w", err)
		}
		if root = parse(c, content); root == nil {
			return Config{origin: &origin{file: c.file}}, c.err() // what it lacks is not known
		}
	}
	for _, v := range variables {
		value, set := source.Flags[v.path]
		if !set {
			value, set = source.Lookup(v.name)
			set = set && value != "" // an empty one, as templates leave behind, says nothing
		}
		if set {
			override(root, strings.Split(v.path, "."), value)
		}
	}
	var config Config
	c.check(root, reflect.TypeOf(config), "", source.Lookup)
	c.decode(root, &config)
	config.normalise(c, source.NoBroker)
	_, list := c.lines["outboxes"]
	config.origin = &origin{c.file, c.lines, list}
	return config, c.err()
}

// parse returns the file's root, which is an empty mapping where it has none, and nil where it cannot be read.
func parse(c *collector, content []byte) *yaml.Node {
	var roots []*yaml.Node
	for decoder := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, text := splitLine(err.Error())
			c.at(line, "", "is not YAML: %s%s", text, quoting(text))
			return nil
		}
		if root := document.Content[0]; root.Tag != "!!null" { // nothing, or comments
			roots = append(roots, root)
		}
	}
	if len(roots) == 0 {
		return &yaml.Node{Kind: yaml.MappingNode}
	}
	if roots[0].Kind != yaml.MappingNode {
		c.at(roots[0].Line, "", "is not a mapping: write lines like `database: postgres://host/database`")
		return nil
	}
	for _, more := range roots[1:] {
		c.at(more.Line, "", "is another document, behind a line ---: all settings belong into one")
	}
	return roots[0]
}

// override sets the scalar at path, in front of what the file says.
func override(node *yaml.Node, path []string, value string) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value != path[0] {
			continue
		}
		if len(path) > 1 {
			override(node.Content[i+1], path[1:], value)
			return
		}
		node.Content[i+1] = &yaml.Node{Kind: yaml.ScalarNode, Value: value}
		return
	}
	next := &yaml.Node{Kind: yaml.ScalarNode, Value: value}
	if len(path) > 1 {
		next = &yaml.Node{Kind: yaml.MappingNode}
		override(next, path[1:], value)
	}
	node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: path[0]}, next)
}

// check walks the file: it notes where each setting is and which are unknown, and puts secrets in their places.
func (c *collector) check(node *yaml.Node, t reflect.Type, path string, lookup func(string) (string, bool)) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if c.lines[path] == 0 {
		c.lines[path] = node.Line
	}
	if node.Kind == yaml.MappingNode {
		c.unique(node, path)
	}
	switch {
	case node.Kind == yaml.ScalarNode:
		c.expand(node, path, lookup)
	case node.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for i, item := range node.Content {
			c.check(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i), lookup)
		}
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		for i := 0; i+1 < len(node.Content); i += 2 {
			c.check(node.Content[i+1], t.Elem(), join(path, node.Content[i].Value), lookup)
		}
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		known := fields(t)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			field, ok := known[key.Value]
			if !ok {
				c.at(key.Line, join(path, key.Value), "is not a setting%s", suggestion(key.Value, known))
				continue
			}
			c.lines[join(path, key.Value)] = key.Line
			c.check(node.Content[i+1], field, join(path, key.Value), lookup)
		}
	}
}

// unique leaves the first of settings with one name, so that the rest can be decoded.
func (c *collector) unique(node *yaml.Node, path string) {
	lines := map[string]int{}
	var content []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if first, twice := lines[key.Value]; twice && key.Kind == yaml.ScalarNode {
			c.at(key.Line, join(path, key.Value), "is set already, on line %d: leave one of the two", first)
			continue
		}
		lines[key.Value] = key.Line
		content = append(content, key, node.Content[i+1])
	}
	node.Content = content
}

func (c *collector) expand(node *yaml.Node, path string, lookup func(string) (string, bool)) {
	if c.expanded[node] || !strings.Contains(node.Value, "${") {
		return
	}
	c.expanded[node] = true // an alias leads here again: what a secret holds is no reference
	value, err := expand(node.Value, lookup)
	if err != nil {
		c.at(node.Line, path, "%v", err)
		return
	}
	node.Value = value
	if node.Style == 0 {
		node.Tag = "" // a number from a variable is a number
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fields returns the settings of a struct by name.
func fields(t reflect.Type) map[string]reflect.Type {
	known := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			for name, inner := range fields(f.Type) {
				known[name] = inner
			}
			continue
		}
		if name := f.Tag.Get("yaml"); name != "" {
			known[name] = f.Type
		}
	}
	return known
}

// suggestion names the setting that was probably meant, or all there are.
func suggestion(key string, known map[string]reflect.Type) string {
	best, least := "", 3
	var all []string
	for name := range known {
		all = append(all, name)
	}
	slices.Sort(all)
	for _, name := range all {
		if d := distance(strings.ToLower(key), name); d < least {
			best, least = name, d
		}
	}
	if best != "" {
		return fmt.Sprintf(": is it %s that was meant?", best)
	}
	return ": there are " + strings.Join(all, ", ")
}

// distance counts the insertions, deletions and replacements between a and b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// decode notes each setting of a wrong type.
func (c *collector) decode(root *yaml.Node, config *Config) {
	err := root.Decode(config)
	if err == nil {
		return
	}
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		wrong = &yaml.TypeError{Errors: []string{err.Error()}}
	}
	for _, message := range wrong.Errors {
		line, text := splitLine(message)
		c.at(line, c.settingAt(line), "%s", typeFault(text))
	}
}

// settingAt returns the path of the innermost setting on a line.
func (c *collector) settingAt(line int) string {
	found := ""
	for path, at := range c.lines {
		if at == line && line > 0 && (len(path) > len(found) || len(path) == len(found) && path < found) {
			found = path
		}
	}
	return found
}

var (
	linePrefix = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s*)?line (\d+): `)
	wrongType  = regexp.MustCompile("cannot unmarshal !!(\\w+)(?: `[^`]*`)? into (\\S+)")
)

// quoting says what is meant by an error of the parser's where a value such as stdout: is not quoted.
func quoting(text string) string {
	if !strings.Contains(text, "mapping values are not allowed") {
		return ""
	}
	return `: quote a value that ends with a colon, or has one before a space, as in broker: "stdout:"`
}

func splitLine(message string) (int, string) {
	m := linePrefix.FindStringSubmatch(message)
	if m == nil {
		return 0, strings.TrimPrefix(message, "yaml: ")
	}
	line, _ := strconv.Atoi(m[1]) // digits, by the expression
	return line, message[len(m[0]):]
}

// typeFault says what a setting must be. The value is left out, which may be a secret.
func typeFault(text string) string {
	m := wrongType.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	want := map[string]string{
		"int": "a whole number", "bool": "true or false", "time.Duration": "a duration such as 500ms, 30s or 5m", "string": "a text",
		"[]string": "a list of texts", "config.URL": "a URL",
	}[m[2]]
	if want == "" {
		want = "of another kind: see the example in the documentation"
	}
	have := map[string]string{"seq": "a list", "map": "a mapping", "str": "a text", "int": "a number", "float": "a number", "bool": "a boolean"}[m[1]]
	if have == "" {
		have = m[1]
	}
	return fmt.Sprintf("is %s: it must be %s", have, want)
}
