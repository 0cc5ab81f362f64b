//go:build interop

package interop

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// cellsOf returns the cells that a client has.
func cellsOf(c *client) (list []cell) {
	for _, kind := range []string{"rest", "websocket"} {
		for _, column := range append([]string{"environment", "line", "socks", "exec", "isolate"}, refusals...) {
			part, _ := c.program(kind, column)
			if part != "" && !(column == "line" && part == kind) { // that is the environment's cell
				list = append(list, cell{Client: c.id, Kind: kind, Column: column})
			}
		}
	}
	return list
}

// chosen returns the clients of this run: CLIENT=names, or those of CLIENTS_LANGUAGES.
func chosen(t *testing.T, all []*client) (list []*client) {
	t.Helper()
	names, spoken := strings.Fields(os.Getenv("CLIENT")), strings.Fields(os.Getenv("CLIENTS_LANGUAGES"))
	for _, c := range all {
		if slices.Contains(names, c.id) || len(names) == 0 && slices.Contains(spoken, c.language) {
			list = append(list, c)
		}
	}
	if len(list) == 0 || len(names) > 0 && len(list) != len(names) {
		t.Fatalf("no such client among %q", names)
	}
	return list
}

// exceptions are the cells in which not all works that should, with the reason.
var exceptions = map[cell]string{
	{"urllib3", "rest", "exec"}:                "urllib3 takes no proxy from the environment, and exec does not change it",
	{"asyncio", "rest", "exec"}:                "asyncio knows of no proxies",
	{"asyncio", "websocket", "exec"}:           "asyncio knows of no proxies",
	{"gobwas", "websocket", "exec"}:            "gobwas/ws connects by itself, and takes no proxy from the environment",
	{"tokio-tungstenite", "websocket", "exec"}: "tokio-tungstenite knows of no proxies",
	{"apache-httpclient", "rest", "exec"}:      "HttpClients.createDefault() does not read the properties of Java; createSystem() does",
}

// Promise (security): every client library reaches its exchange through the upstreams alone under proxyd exec --isolate, also those that ignore proxies; no name is looked up.
// Promise (security): unmodified Python programs of cryptofeed, ccxt and other libraries reach their exchanges through the upstreams alone under proxyd exec; no name is looked up, nothing from ~/.netrc is sent.
func TestMatrix(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") == "" {
		t.Skip("run by interop/clients.sh")
	}
	detectNames(t)
	all := readClients(t)
	ran := chosen(t, all)
	buildClients(t, ran)
	outcomes := map[cell]outcome{}
	seen, workers := runTasks(tasksOf(ran))
	run(t, "the networks start and end", func(t *testing.T) {
		if workers != nil {
			t.Error(workers)
		}
	})
	for _, o := range seen {
		outcomes[o.Cell] = o
		run(t, o.Cell.String()+": "+o.Outcome, func(t *testing.T) { o.check(t) })
	}
	compareTables(t, all, ran, outcomes)
}

// tasksOf returns the outage, which takes longest, and then the cells.
func tasksOf(clients []*client) []task {
	var outage []string
	var list []task
	for _, c := range clients {
		if c.parts["feed"] != "" {
			outage = append(outage, c.id)
		}
		for _, one := range cellsOf(c) {
			list = append(list, task{Cell: one})
		}
	}
	if outage != nil {
		list = append([]task{{Outage: outage}}, list...)
	}
	return list
}

// check fails what must work and does not; all else is for the tables.
func (o outcome) check(t *testing.T) {
	if o.Again != "" {
		fmt.Println("     the second attempt; the first took too long: " + o.Again)
	}
	must := slices.Contains([]string{"line", "exec", "isolate", "outage"}, o.Cell.Column)
	reason, excepted := exceptions[o.Cell]
	switch {
	case excepted && o.Outcome == works:
		t.Errorf("works: remove the exception: %s", reason)
	case must && !excepted && !slices.Contains([]string{works, goesOn, ends, hangs}, o.Outcome), o.Outcome == notRun:
		t.Error(o.Output)
	case o.Lives && o.Outcome != goesOn:
		t.Errorf("should go on\n%s", o.Output)
	case o.Outcome == fails && !slices.Contains(refusals, o.Cell.Column):
		fmt.Println(lastLines(o.Output, 30))
	case o.Outcome == fails || os.Getenv("CLIENT") != "":
		fmt.Println("     " + o.Error)
	}
}
