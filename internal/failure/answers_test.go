package failure

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/operations.md has a row for every class that clients are answered with,
// with the answer that they get.
func TestDocumentedClasses(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9, ]+) \\| ([^|]+) \\| ([^|]+) \\| [^|]+").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2:]
	}
	for class, answer := range answers {
		row, ok := rows[string(class)]
		if !ok {
			t.Errorf("no row for the class %s", class)
			continue
		}
		delete(rows, string(class))
		if http := strings.Split(row[0], ", "); http[0] != strconv.Itoa(answer.HTTP) {
			t.Errorf("%s: the document says HTTP %s, the answer is %d", class, row[0], answer.HTTP)
		}
		if socks, err := strconv.Atoi(row[1]); err == nil && socks != int(answer.SOCKS5) {
			t.Errorf("%s: the document says SOCKS5 %s, the answer is %d", class, row[1], answer.SOCKS5)
		}
		if blame, _, _ := strings.Cut(answer.Blame, ","); !strings.HasPrefix(row[2], blame) && answer.Blame != "local" {
			t.Errorf("%s: the document blames %s, the answer %s", class, row[2], answer.Blame)
		}
	}
	for class := range rows {
		t.Errorf("a row for %s, which is no class", class)
	}
}

func TestEveryClassHasAnAnswer(t *testing.T) {
	for class, a := range answers {
		if a.HTTP < 400 || a.SOCKS5 < 1 || a.SOCKS5 > 8 || a.Proxy == "" || a.Blame == "" {
			t.Errorf("%s: %+v is no whole answer", class, a)
		}
		switch a.HTTP {
		case 401, 418, 422, 429, 451:
			t.Errorf("%s: %d would be read as the exchange's", class, a.HTTP)
		}
	}
}
