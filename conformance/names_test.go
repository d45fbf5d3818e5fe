package conformance

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// products are databases, message systems and their clients. The suite is for all of them, and knows none.
var products = []string{"postgres", "pgx", "mysql", "mariadb", "innodb", "sqlite", "oracle", "kafka", "sarama", "rabbit", "amqp", "watermill", "pulsar"}

func TestNoProductIsNamed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 50 {
		t.Fatalf("found %d files (%v)", len(files), err)
	}
	for _, file := range files {
		if file == "names_test.go" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ToLower(text)
		for _, name := range products {
			if bytes.Contains(text, []byte(name)) {
				t.Errorf("%s names %s: say what it does, and not who", file, name)
			}
		}
	}
}
