package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// outcome is what a client must be told of a failure.
type outcome struct {
	class  string
	status int
	code   byte // SOCKS5
}

// budget is the timeout_seconds to ask for: short where it will be spent, and
// else so long that a busy machine does not spend it.
func (o outcome) budget() string {
	if strings.HasSuffix(o.class, "_timeout") {
		return "timeout_seconds: 1"
	}
	return "timeout_seconds: 20"
}

// soon is by when an answer is here whose budget is one second. A budget that
// was not heeded, the default of four seconds, takes longer.
const soon = 3 * time.Second

// The answers of the failures, as docs promise them.
var (
	refused       = outcome{"upstream_refused", 502, 1}
	unreachable   = outcome{"upstream_unreachable", 502, 1}
	noName        = outcome{"upstream_dns", 502, 1}
	badTLS        = outcome{"upstream_tls", 502, 1}
	garbage       = outcome{"upstream_protocol", 502, 1}
	badAuth       = outcome{"upstream_auth", 502, 1}
	saysNo        = outcome{"upstream_denied", 502, 1}
	slowUpstream  = outcome{"upstream_timeout", 504, 6}
	slowTarget    = outcome{"target_timeout", 504, 6}
	targetRefused = outcome{"target_refused", 502, 5}
	targetAway    = outcome{"target_unreachable", 502, 4}
	targetNoName  = outcome{"target_dns", 502, 4}
	denied        = outcome{"denied", 403, 2}
	local         = outcome{"local", 503, 1}
	noUpstream    = outcome{"no_upstream", 503, 1}
	overload      = outcome{"overload", 503, 1}
)

// marker stands in what upstreams say beyond their status and reason; no client
// may ever see it.
const marker = "UPSTREAM-BODY"

// asking is every protocol in which a client can ask for a name.
var asking = []testkit.Protocol{testkit.CONNECT11, testkit.CONNECT10, testkit.SOCKS5, testkit.SOCKS4A}

// refusedAlike asks for a target in every protocol, and by a plain request, and
// wants the same answer each time, and soon.
func refusedAlike(t *testing.T, p *proxyd, target string, want outcome, words string) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() { refusedInTunnels(t, p, target, want, words) })
	all.Go(func() {
		c := testkit.Dial(t, p.Addr)
		c.Send("GET http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\n\r\n")
		reply := c.ReadHTTP("GET")
		holds(t, "GET", reply, want)
		c.ExpectEOF()
	})
	all.Wait()
}

// refusedInTunnels is refusedAlike without the plain request.
func refusedInTunnels(t *testing.T, p *proxyd, target string, want outcome, words string) {
	t.Helper()
	var all sync.WaitGroup
	for _, protocol := range asking { // at once, since they may all wait for the budget's end
		all.Go(func() {
			c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: target, Early: "early bytes"})
			holds(t, protocol, reply, want)
			if reply.Took > soon {
				t.Errorf("%s: answered only after %v", protocol, reply.Took)
			}
			if protocol.HTTP() && !strings.Contains(reply.Body, words) {
				t.Errorf("%s: the body %q lacks %q", protocol, reply.Body, words)
			}
			c.ExpectEOF()
		})
	}
	all.Wait()
}

var (
	errorField = regexp.MustCompile(`^class=([a-z_]+) exchange=(\S+) upstream=(\S+) tried=(\d+)$`)
	statusLine = regexp.MustCompile(`^proxyd; error=[a-z_]+; details="[ -~]*"$`)
	printable  = regexp.MustCompile(`^[ -~]*$`)
)

// holds checks a refusal against the promises about refusals.
func holds(t *testing.T, protocol testkit.Protocol, r testkit.Reply, want outcome) {
	t.Helper()
	if r.OK || r.Closed {
		t.Fatalf("%s: %v, want %+v", protocol, r, want)
	}
	switch protocol {
	case testkit.SOCKS5:
		if raw := string([]byte{5, want.code, 0, 1, 0, 0, 0, 0, 0, 0}); string(r.Raw) != raw {
			t.Errorf("%s: % x, want % x", protocol, r.Raw, raw)
		}
		return
	case testkit.SOCKS4, testkit.SOCKS4A:
		if raw := "\x00\x5b\x00\x00\x00\x00\x00\x00"; string(r.Raw) != raw {
			t.Errorf("%s: % x, want % x", protocol, r.Raw, raw)
		}
		return
	}
	if r.Status != want.status {
		t.Errorf("%s: %v, want %d", protocol, r, want.status)
	}
	if !strings.HasPrefix(r.Reason, "proxyd: "+want.class+": ") || len(r.Reason) > 120 || !printable.MatchString(r.Reason) {
		t.Errorf("%s: the reason is %q, want it to begin with %q", protocol, r.Reason, "proxyd: "+want.class+": ")
	}
	m := errorField.FindStringSubmatch(r.Header.Get("X-Proxyd-Error"))
	if m == nil || m[1] != want.class {
		t.Errorf("%s: X-Proxyd-Error is %q", protocol, r.Header.Get("X-Proxyd-Error"))
	}
	if s := r.Header.Get("Proxy-Status"); !statusLine.MatchString(s) {
		t.Errorf("%s: Proxy-Status is %q", protocol, s)
	}
	if r.Header.Get("X-Proxyd-Request-Id") == "" || r.Header.Get("Content-Type") != "text/plain" ||
		r.Header.Get("Content-Length") != strconv.Itoa(len(r.Body)) || !strings.Contains(r.Head, "\r\nConnection: close\r\n") {
		t.Errorf("%s: %v", protocol, r)
	}
	if after := r.Header.Get("Retry-After"); (after != "") != (want.status == 503 && want.class != "local") {
		t.Errorf("%s: %d has Retry-After %q", protocol, want.status, after)
	}
	if strings.TrimSpace(r.Body) == "" || !printable.MatchString(strings.TrimRight(r.Body, "\n")) {
		t.Errorf("%s: the body is %q", protocol, r.Body)
	}
	if strings.Contains(r.Head+r.Body, marker) || r.Header.Get("Set-Cookie") != "" {
		t.Errorf("%s: the upstream's words were passed on: %v", protocol, r)
	}
}
