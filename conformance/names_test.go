package conformance

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// products are databases, message systems and their clients. The suite is for all of them, and knows none.
var products = regexp.MustCompile(`(?i)postgres|\bpgx\b|\bpq\b|mysql|mariadb|innodb|sqlite|oracle|kafka|sarama|rabbit|amqp|watermill|\bnats\b|pulsar|\bredis\b`)

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
		if name := products.Find(text); name != nil {
			t.Errorf("%s names %s: say what it does, and not who", file, name)
		}
	}
}
