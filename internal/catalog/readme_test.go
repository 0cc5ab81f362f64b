package catalog

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What data/README.md counts and dates is what the data holds.
func TestReadmeMatchesData(t *testing.T) {
	text, err := os.ReadFile("data/README.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds, envs, from, docsOnly := map[string]int{}, map[string]int{}, map[string]int{}, 0
	for _, r := range rows(t, "hosts") {
		kinds[r[2]]++
		envs[r[3]]++
		for _, s := range strings.Split(r[4], ";") {
			from[s]++
		}
		if r[4] == "docs" {
			docsOnly++
		}
	}
	aliases := map[string]int{}
	for _, r := range rows(t, "aliases") {
		aliases[r[2]]++
	}
	hosts, names := len(rows(t, "hosts")), len(rows(t, "aliases"))
	for _, want := range []string{
		"Compiled " + Date() + ".",
		fmt.Sprintf("| hosts | %d |", hosts),
		fmt.Sprintf("| exchanges | %d |", len(Embedded().IDs())),
		fmt.Sprintf("%d rows, %d exchanges", hosts, len(Embedded().IDs())),
		fmt.Sprintf("| kind | http %d, websocket %d, both %d |", kinds["http"], kinds["websocket"], kinds["both"]),
		fmt.Sprintf("| env | live %d, test %d |", envs["live"], envs["test"]),
		fmt.Sprintf("| rows naming a source | ccxt %d, cryptofeed %d, docs %d |", from["ccxt"], from["cryptofeed"], from["docs"]),
		fmt.Sprintf("| rows with `docs` only | %d |", docsOnly),
		fmt.Sprintf("| aliases | %d (ccxt %d, cryptofeed %d, common %d) |", names, aliases["ccxt"], aliases["cryptofeed"], aliases["common"]),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	for _, x := range Embedded().Exchanges() {
		for _, h := range x.Hosts {
			if h.Kind == KindBoth && !strings.Contains(string(text), "`"+h.Name+"`") {
				t.Errorf("it does not list %s, which serves both kinds", h.Name)
			}
		}
	}
}
