package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/testkit"
)

// listServer serves a list of proxies, which changes while proxyd runs.
type listServer struct {
	*httptest.Server
	mu     sync.Mutex
	text   string
	status int // 200, or what is answered in place of the list
	asked  int
	same   int // answers that nothing has changed
}

func newListServer(t *testing.T, text string) *listServer {
	t.Helper()
	s := &listServer{text: text, status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		tag := fmt.Sprintf("%q", fmt.Sprint(len(s.text), s.text[:min(20, len(s.text))]))
		switch {
		case s.status != http.StatusOK:
			w.WriteHeader(s.status)
		case r.Header.Get("If-None-Match") == tag:
			s.same++
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", tag)
			_, _ = io.WriteString(w, s.text)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *listServer) set(status int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text, s.status = text, status
}

// counts returns how often the server was asked, and how often nothing had changed.
func (s *listServer) counts() (asked, same int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.same
}

const listToken = "geheim-token"

// listYAML is a configuration with a list from a server.
func (s *listServer) yaml(more string) string {
	return loopback + "pools: {asia: {strategy: failover, scheme: socks5, list: {from: \"http://bob:" + listToken + "@" + s.Listener.Addr().String() + "/" + listToken + "\", via: direct, refresh_seconds: 10}}}\n" +
		"default: asia\n" + more
}

// socksProxies returns proxies that lead to an echo, and the lines of a list of them.
func socksProxies(t *testing.T, n int) (ups []*testkit.Proxy, lines func(from, to int) string) {
	t.Helper()
	echo := testkit.NewTCP(t, testkit.Echo)
	for range n {
		ups = append(ups, testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", User: "bob", Password: "geheim-7", Hosts: map[string]string{"*": echo.Addr}}))
	}
	return ups, func(from, to int) string {
		var list strings.Builder
		for _, u := range ups[from:to] {
			list.WriteString(u.Addr + ":bob:geheim-7\n")
		}
		return list.String()
	}
}

// A reload that an operator asks for applies a list that has shrunk.
//
// Promise (routing): a list from a URL that is empty, has shrunk below half, is a page
// or cannot be fetched changes nothing; a good one leaves tunnels alone.
func TestListFromURLIsFetchedAgain(t *testing.T) {
	t.Parallel()
	ups, lines := socksProxies(t, 4)
	s := newListServer(t, lines(0, 3))
	state := t.TempDir()
	p := start(t, s.yaml("state_dir: "+state+"\n"))
	kept, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
	if !reply.OK || !leads(t, p, ups[0]) {
		t.Fatalf("not through the first of the list: %v\n%s", reply, p.Log)
	}

	s.set(http.StatusOK, lines(1, 4))
	if p.waitLine(`"type":"reload"`, "(list asia)", "~ pool asia: 1 member added, 1 gone") == "" || !leads(t, p, ups[1]) {
		t.Errorf("the new list is not in force:\n%s", p.Log)
	}
	works(kept)

	for _, c := range []struct {
		status     int
		text, want string
	}{
		{http.StatusBadGateway, "", "the answer is HTTP 502"},
		{http.StatusOK, "", "the list is empty"},
		{http.StatusOK, "\n<!doctype html><p>198.51.100.1:1080", "a page of HTML"},
		{http.StatusOK, "what is this\nand this\n" + lines(2, 3), "more lines of the list are wrong than right"},
		{http.StatusOK, lines(3, 4), "has shrunk from 3 members to 1: correct it; or, if it is meant, run: proxyd reload"},
	} {
		s.set(c.status, c.text)
		if !strings.Contains(c.want, "shrunk") {
			before, _ := s.counts()
			p.reload <- struct{}{}
			if p.waitLine(`"warning":"list asia could not be fetched from http://`, c.want) == "" {
				t.Errorf("nothing is said of %q:\n%s", c.want, p.Log)
			}
			if after, _ := s.counts(); after == before {
				t.Error("a reload fetches nothing")
			}
		} else if p.waitLine(`"type":"list"`, c.want, `"hint":"see what the provider serves before you do"`) == "" { // fetched without a reload
			t.Errorf("no event:\n%s", p.Log)
		}
		if !leads(t, p, ups[1]) {
			t.Errorf("%s: the list in force has changed:\n%s", c.want, p.Log)
		}
	}
	works(kept)
	p.reload <- struct{}{}
	if p.waitLine(`"type":"reload"`, "(SIGHUP)", "~ pool asia: 2 members gone") == "" || !leads(t, p, ups[3]) {
		t.Errorf("the shrunk list is not applied by SIGHUP:\n%s", p.Log)
	}
	if p.waitLine(`"type":"list"`, "list asia is up to date again") == "" {
		t.Errorf("the end of the trouble is not said:\n%s", p.Log)
	}
	works(kept)
	testkit.Eventually(t, testkit.Patience, "one file is kept", func() bool { // the last one may be written just now
		files, _ := filepath.Glob(state + "/*")
		return len(files) == 1
	})
	for _, secret := range []string{"geheim", "bob"} {
		if strings.Contains(p.Log.String(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, p.Log)
		}
	}
}

// metricOf returns the value of a series in the admin server's metrics, -1 if there is none.
func metricOf(t *testing.T, p *proxyd, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`"msg":"admin".*"address":"([^"]+)"`).FindStringSubmatch(p.Log.String())
	if m == nil {
		return -1
	}
	resp, err := http.Get("http://" + m[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	return -1
}

// Promise (routing): proxyd starts without the provider of a list, with the list that it
// has kept, else with a pool that refuses, never direct; and it goes on asking.
func TestStartWithoutTheProviderOfAList(t *testing.T) {
	t.Parallel()
	ups, lines := socksProxies(t, 2)
	s := newListServer(t, lines(0, 1))
	state := t.TempDir()
	first := start(t, s.yaml("state_dir: "+state+"\n"))
	if !leads(t, first, ups[0]) {
		t.Fatal(first.Log)
	}
	first.stop()
	s.set(http.StatusServiceUnavailable, "")

	again := start(t, s.yaml("state_dir: "+state+"\n"))
	if !leads(t, again, ups[0]) {
		t.Errorf("the kept list is not used:\n%s", again.Log)
	}
	again.stop()

	none := start(t, s.yaml("admin: 127.0.0.1:0\n"))
	for _, protocol := range []testkit.Protocol{testkit.CONNECT11, testkit.SOCKS5} {
		_, reply := testkit.Open(t, none.Addr, testkit.Ask{Protocol: protocol, Target: target})
		if reply.OK || protocol == testkit.CONNECT11 && (reply.Status != 503 || !strings.Contains(reply.Header.Get("X-Proxyd-Error"), "class=no_upstream") || !strings.Contains(reply.Body, "pool asia has no member yet: its list was not fetched so far")) {
			t.Errorf("%v: a pool without members does not refuse: %v", protocol, reply)
		}
	}
	if none.waitLine(`"type":"list"`, `"level":"error"`, "no list is known, and the pool has no member from it") == "" {
		t.Errorf("nothing is said:\n%s", none.Log)
	}
	if got := metricOf(t, none, `proxyd_list_last_success_timestamp_seconds{list="asia"}`); got != 0 {
		t.Errorf("the list was last fetched at %g", got)
	}
	s.set(http.StatusOK, lines(1, 2))
	if none.waitLine(`"type":"reload"`, "(list asia)", "1 member added") == "" || !leads(t, none, ups[1]) {
		t.Errorf("the list that came late is not in force:\n%s", none.Log)
	}
	if none.waitLine("lists from URLs are not kept") == "" {
		t.Errorf("it is not said that lists are not kept:\n%s", none.Log)
	}
	if got := metricOf(t, none, `proxyd_list_last_success_timestamp_seconds{list="asia"}`); got < 1e9 {
		t.Errorf("the list was last fetched at %g", got)
	}
}

// What the file on disk says is for a reload of the file: a list that is fetched puts
// nothing else in force.
func TestListFromURLPutsNothingElseInForce(t *testing.T) {
	t.Parallel()
	ups, lines := socksProxies(t, 2)
	s := newListServer(t, lines(0, 1))
	p := start(t, s.yaml(""))
	if !leads(t, p, ups[0]) {
		t.Fatal(p.Log)
	}
	if err := os.WriteFile(p.File, []byte("default: direct\nlisten: 127.0.0.1:0\nbroken"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.set(http.StatusOK, lines(0, 2))
	if p.waitLine(`"type":"reload"`, "(list asia)", ": ~ pool asia: 1 member added") == "" || !leads(t, p, ups[0]) {
		t.Errorf("the new list is not in force:\n%s", p.Log)
	}
}

// Promise (data path): of a list of 5,000 members of which 10 change, all others keep
// their tunnels, and those that are gone close theirs only with on_removed: drain.
func TestFewOfManyMembersChange(t *testing.T) {
	t.Parallel()
	const members, change = 5000, 10
	ups, lines := socksProxies(t, 3)
	var others []string
	for i := range members - len(ups) {
		others = append(others, fmt.Sprintf("host-%d.provider.example:1080:user-%d:geheim-7\n", i, i))
	}
	s := newListServer(t, lines(0, 3)+strings.Join(others, ""))
	p := start(t, strings.Replace(s.yaml("on_removed: drain\ndrain_after_seconds: 0\nexchanges: {okx: {http: second}}\n"), "pools: {", "pools: {second: {proxies: [{url: \"socks5://bob:geheim-7@"+ups[2].Addr+"\", name: third}]}, ", 1))
	var conns []*testkit.Conn
	for range 20 {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
		if !reply.OK {
			t.Fatalf("%v\n%s", reply, p.Log)
		}
		conns = append(conns, c)
	}
	ups[0].SetFault(testkit.On(testkit.AtAccept, testkit.Close))
	gone, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target}) // through the second
	if !reply.OK {
		t.Fatalf("%v\n%s", reply, p.Log)
	}
	for i := range change - 1 {
		others[100*i] = fmt.Sprintf("new-%d.provider.example:1080:user-%d:geheim-7\n", i, i)
	}
	s.set(http.StatusOK, lines(0, 1)+"new.provider.example:1080:bob:geheim-7\n"+lines(2, 3)+strings.Join(others, ""))
	p.reload <- struct{}{}
	line := p.waitLine(`"type":"reload"`, "(SIGHUP)", "~ pool asia: 10 members added, 10 gone")
	if line == "" {
		t.Fatal(p.Log)
	}
	took, err := strconv.Atoi(regexp.MustCompile(`in (\d+) ms`).FindStringSubmatch(line)[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		works(c)
	}
	gone.ExpectEOF()
	for _, c := range conns {
		works(c)
	}
	others[4000] = "newer.provider.example:1080:user:geheim-7\n"
	s.set(http.StatusOK, lines(0, 1)+"new.provider.example:1080:bob:geheim-7\n"+lines(2, 3)+strings.Join(others, ""))
	line = p.waitLine(`"type":"reload"`, "(list asia)", "~ pool asia: 1 member added, 1 gone") // without a fetch in it
	if line == "" {
		t.Fatal(p.Log)
	}
	again, err := strconv.Atoi(regexp.MustCompile(`in (\d+) ms`).FindStringSubmatch(line)[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d members changed in %d ms with the fetch; 1 in %d ms without it", change, members, took, again)
	if again > 2000 { // a busy machine
		t.Errorf("a reload took %d ms", again)
	}
	for _, c := range conns {
		works(c)
	}
}

// A file that is saved with a list from a URL is applied with the list: there is no time
// in which the pool has no members.
func TestSavedFileWithANewListFromURL(t *testing.T) {
	t.Parallel()
	ups, lines := socksProxies(t, 2)
	s := newListServer(t, lines(0, 1))
	p := start(t, loopback+"watch: true\npools: {asia: {proxies: [\"socks5://bob:geheim-7@"+ups[1].Addr+"\"]}}\ndefault: asia\n")
	kept, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
	if !reply.OK {
		t.Fatal(reply)
	}
	saving(withListen("watch: true\n"+s.yaml("")))(t, p.File)
	if p.waitLine(`"type":"reload"`, "(file changed)", "~ pool asia: 1 member added") == "" || !leads(t, p, ups[0]) {
		t.Errorf("the list is not in force with the file:\n%s", p.Log)
	}
	works(kept)
	if asked, _ := s.counts(); asked != 1 {
		t.Errorf("the list was fetched %d times", asked)
	}
	saving(withListen("watch: true\n"+s.yaml("drain_seconds: 11\n")))(t, p.File)
	if p.waitLine("~ drain_seconds: 10 → 11") == "" {
		t.Errorf("the file is not in force:\n%s", p.Log)
	}
	saving(withListen("watch: true\n"+newListServer(t, "").yaml("")))(t, p.File) // another URL, whose list is empty
	if p.waitLine(`"type":"reload_refused"`, "(file changed)", "list asia cannot be fetched from http://", "the list is empty") == "" {
		t.Errorf("a file that leaves the pool empty is not refused:\n%s", p.Log)
	}
	p.reload <- struct{}{}
	if p.waitLine(`"type":"reload_refused"`, "(SIGHUP)", "list asia cannot be fetched from http://") == "" || !leads(t, p, ups[0]) {
		t.Errorf("a reload leaves the pool empty:\n%s", p.Log)
	}
}
