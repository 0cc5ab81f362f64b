package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

const (
	host     = "api.venue.example"
	httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"
	slack    = 10 * time.Second // less than the differences between the pauses below
)

// TestVerdicts is what each answer of an exchange means, over a real connection
// through a real proxy.
func TestVerdicts(t *testing.T) {
	ca := testkit.NewCA(t)
	v := testkit.NewVenue(t, ca)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{host: v.Addr}})
	dial, _ := through(t, proxy.URL())
	http, ws := catalog.KindHTTP, catalog.KindWebsocket
	cloudfront := "<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY>The Amazon CloudFront distribution is configured to block access from your country.</BODY></HTML>"
	for _, c := range []struct {
		name  string
		kind  catalog.Kind
		says  testkit.VenueReply
		want  Verdict
		text  string // is in the text
		pause time.Duration
	}{
		{name: "200", kind: http, want: OK, text: "HTTP 200"},
		{name: "204", kind: http, says: testkit.VenueReply{Status: 204}, want: OK, text: "HTTP 204"},
		{name: "451", kind: http, says: testkit.VenueReply{Status: 451}, want: Geoblocked, text: "HTTP 451"},
		{name: "451 of Binance", kind: http, says: testkit.VenueReply{Status: 451, Body: `{"code":0,"msg":"Service unavailable from a restricted location according to 'b. Eligibility'"}`}, want: Geoblocked, text: "Binance"},
		{name: "451 on the upgrade", kind: ws, says: testkit.VenueReply{Status: 451}, want: Geoblocked, text: "HTTP 451"},
		{name: "403 of CloudFront by country", kind: http, says: testkit.VenueReply{Status: 403, Body: cloudfront}, want: Geoblocked, text: "CloudFront"},
		{name: "403 by country, compressed unasked", kind: http, says: testkit.VenueReply{Status: 403, Header: map[string]string{"Content-Encoding": "gzip"}, Body: zipped(cloudfront)}, want: Geoblocked, text: "CloudFront"},
		{name: "403 that is not what it says", kind: http, says: testkit.VenueReply{Status: 403, Header: map[string]string{"Content-Encoding": "gzip"}, Body: "Forbidden"}, want: Blocked, text: "HTTP 403: Forbidden"},
		{name: "403 of Cloudflare by country", kind: http, says: testkit.VenueReply{Status: 403, Body: "error code: 1009"}, want: Geoblocked, text: "1009"},
		{name: "403 of Cloudflare by a rule", kind: ws, says: testkit.VenueReply{Status: 403, Body: "error code: 1020"}, want: Blocked, text: "1020"},
		{name: "200 of KuCoin by country", kind: http, says: testkit.VenueReply{Body: `{"code":"400302","msg":"Our services are currently unavailable in the U.S."}`}, want: Geoblocked, text: "KuCoin"},
		{name: "403 of Bybit for too many", kind: http, says: testkit.VenueReply{Status: 403, Body: "Access too frequent."}, want: RateLimited, text: "Bybit", pause: 10 * time.Minute},
		{name: "403", kind: http, says: testkit.VenueReply{Status: 403, Body: `{"message":"Forbidden"}`}, want: Blocked, text: "HTTP 403: Forbidden"},
		{name: "429", kind: http, says: testkit.VenueReply{Status: 429}, want: RateLimited, pause: time.Minute},
		{name: "429 with seconds", kind: http, says: testkit.VenueReply{Status: 429, Header: map[string]string{"Retry-After": "7"}}, want: RateLimited, pause: 7 * time.Second},
		{name: "418 without end", kind: http, says: testkit.VenueReply{Status: 418, Header: map[string]string{"Retry-After": "99999999999999999999"}}, want: RateLimited, pause: 2 * time.Minute},
		{name: "418 for a year", kind: http, says: testkit.VenueReply{Status: 418, Header: map[string]string{"Retry-After": "31536000"}}, want: RateLimited, pause: 72 * time.Hour},
		{name: "418 to a day in a year", kind: http, says: testkit.VenueReply{Status: 418, Header: map[string]string{"Retry-After": time.Now().AddDate(1, 0, 0).UTC().Format(httpDate)}}, want: RateLimited, pause: 72 * time.Hour},
		{name: "418 to a time in words", kind: http, says: testkit.VenueReply{Status: 418, Body: fmt.Sprintf(`{"code":-1003,"msg":"IP banned until %d."}`, time.Now().Add(time.Hour).UnixMilli())}, want: RateLimited, pause: time.Hour - slack},
		{name: "418", kind: http, says: testkit.VenueReply{Status: 418}, want: RateLimited, pause: 2 * time.Minute},
		{name: "404", kind: http, says: testkit.VenueReply{Status: 404}, want: Unknown, text: "HTTP 404"},
		{name: "503", kind: http, says: testkit.VenueReply{Status: 503, Header: map[string]string{"Retry-After": "30"}}, want: Unknown, pause: 30 * time.Second},
		{name: "a redirect", kind: http, says: testkit.VenueReply{Status: 302, Header: map[string]string{"Location": "/x"}}, want: Unknown, text: "HTTP 302"},
		{name: "101 and a greeting", kind: ws, want: OK, text: "HTTP 101; a message"},
		{name: "101 and a pong", kind: ws, says: testkit.VenueReply{Quiet: true}, want: OK, text: "HTTP 101; a pong"},
		{name: "200 where a 101 was wanted", kind: ws, says: testkit.VenueReply{Status: 200}, want: Unknown, text: "where a 101 was asked for"},
		{name: "101 and closed for a region", kind: ws, says: testkit.VenueReply{Close: "not available in your region"}, want: Geoblocked, text: "1008: not available"},
		{name: "101 and closed", kind: ws, says: testkit.VenueReply{Close: "bye"}, want: Unknown, text: "1008: bye"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v.Answer(c.says)
			before := time.Now()
			r := Probe(t.Context(), dial, asks(c.kind, host, ca))
			if r.Verdict != c.want || !strings.Contains(r.Text, c.text) {
				t.Errorf("got %s, %q; want %s with %q", r.Verdict, r.Text, c.want, c.text)
			}
			if got := r.Until.Sub(before); c.pause == 0 != r.Until.IsZero() || c.pause != 0 && (got < c.pause || got > c.pause+slack) {
				t.Errorf("not to be probed for %v, want %v", got, c.pause)
			}
			if c.want != OK && c.want != Unknown && r.Unsure {
				t.Error("a sure verdict is called unsure")
			}
		})
	}
}

// TestRequest is what an exchange sees of a probe.
func TestRequest(t *testing.T) {
	ca := testkit.NewCA(t)
	v := testkit.NewVenue(t, ca)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", User: "bob", Password: "pw-canary", Hosts: map[string]string{host: v.Addr}})
	dial, _ := through(t, proxy.URL())
	for _, kind := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
		if r := Probe(t.Context(), dial, asks(kind, host, ca)); r.Verdict != OK {
			t.Fatal(r)
		}
	}
	seen := v.Visits()
	if len(seen) != 2 || seen[0].Target != "/probe?x=1" || seen[0].Host != host || seen[1].Header.Get("Upgrade") != "websocket" {
		t.Fatalf("got %+v", seen)
	}
	for _, s := range seen {
		if ua := s.Header.Get("User-Agent"); ua != config.DefaultUserAgent {
			t.Errorf("User-Agent %q is not that of a usual client", ua)
		}
		if s.Header.Get("Proxy-Authorization") != "" || s.Header.Get("Authorization") != "" {
			t.Errorf("credentials reach the exchange: %v", s.Header)
		}
	}
	if asked := proxy.Asked(); asked[0].Host != host || asked[0].ATYP != 3 {
		t.Errorf("the proxy was asked for %+v, not for the name", asked[0])
	}
}

func TestUserAgentFromConfiguration(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	v := testkit.NewVenue(t, ca)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": v.Addr}})
	r := snapshot(t, "default: direct\nprobe: {user_agent: bot/7}\nexchanges: {binance: {pool: {proxies: [{name: a, url: \""+proxy.URL()+"\"}]}}}\n")
	for _, p := range Pairs(r, []string{"binance"}) {
		dial, a := p.Ask(r.Set(), Exchange)
		a.Roots = ca.Pool
		_ = Probe(t.Context(), dial, a)
	}
	seen := v.Visits()
	if len(seen) != 2 {
		t.Fatalf("%d requests, want one of each kind", len(seen))
	}
	for _, s := range seen {
		if got := s.Header.Get("User-Agent"); got != "bot/7" {
			t.Errorf("%s: User-Agent %q", s.Target, got)
		}
	}
}

// A feed that its address subscribes to has to send: an address that an
// exchange has left behind may be open, answer pings and carry nothing.
func TestSubscribedFeedNeedsMessage(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	for _, c := range []struct {
		name, path string
		says       testkit.VenueReply
		want       Verdict
		text       string
	}{
		{"a message", "/market/ws/btcusdt@aggTrade", testkit.VenueReply{}, OK, "HTTP 101; a message"},
		{"a pong", "/ws/btcusdt@aggTrade", testkit.VenueReply{Quiet: true}, Unknown, "though the address subscribes to some"},
		{"nothing", "/stream?streams=btcusdt@trade", testkit.VenueReply{Mute: true}, Unknown, "though the address subscribes to some"},
		{"all symbols", "/ws/!miniTicker@arr", testkit.VenueReply{Quiet: true}, Unknown, "HTTP 101, but no message within"},
		{"closed", "/ws/btcusdt@trade", testkit.VenueReply{Close: "not available in your region"}, Geoblocked, "not available"},
		{"a pong where nothing is subscribed", "/ws", testkit.VenueReply{Quiet: true}, OK, "HTTP 101; a pong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := testkit.NewVenue(t, ca)
			v.Answer(c.says)
			proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{host: v.Addr}})
			dial, _ := through(t, proxy.URL())
			a := asks(catalog.KindWebsocket, host, ca)
			a.URL, a.Timeout = "wss://"+host+c.path, 800*time.Millisecond
			if c.want == OK {
				a.Timeout = testkit.Patience
			}
			if r := Probe(t.Context(), dial, a); r.Verdict != c.want || !strings.Contains(r.Text, c.text) {
				t.Errorf("got %s, %q; want %s with %q", r.Verdict, r.Text, c.want, c.text)
			}
		})
	}
}

// TestSteps: every step that was made is timed, in order; none that was not.
func TestSteps(t *testing.T) {
	ca := testkit.NewCA(t)
	v := testkit.NewVenue(t, ca)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{host: v.Addr}})
	dial, reach := through(t, proxy.URL())
	named, _ := through(t, strings.Replace(proxy.URL(), "127.0.0.1", "localhost", 1))
	direct, _ := through(t, "direct")
	here := asks(catalog.KindHTTP, "127.0.0.1", ca)
	here.Target = at(v.Addr)
	for _, c := range []struct {
		name string
		dial Dial
		ask  Ask
		want string
	}{
		{"tcp", dial, Ask{Method: TCP, Reach: reach}, "tcp"},
		{"connect", dial, Ask{Method: Connect, Target: asks(catalog.KindHTTP, host, ca).Target}, "tcp proxy"},
		{"http", dial, asks(catalog.KindHTTP, host, ca), "tcp proxy tls http"},
		{"websocket", dial, asks(catalog.KindWebsocket, host, ca), "tcp proxy tls upgrade message"},
		{"a proxy with a name", named, asks(catalog.KindHTTP, host, ca), "dns tcp proxy tls http"},
		{"direct", direct, here, "tcp tls http"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Probe(t.Context(), c.dial, c.ask)
			if got := strings.Join(names(r.Steps), " "); r.Verdict != OK || got != c.want {
				t.Errorf("got %s (%s), steps %q, want %q", r.Verdict, r.Text, got, c.want)
			}
			sum := time.Duration(0)
			for _, s := range r.Steps {
				sum += s.Took
			}
			if sum <= 0 || sum > r.Took {
				t.Errorf("the steps take %v, the whole %v", sum, r.Took)
			}
		})
	}
}

// TestSlowSteps: what is slow shows in the step that was.
func TestSlowSteps(t *testing.T) {
	const late = 150 * time.Millisecond
	ca := testkit.NewCA(t)
	v := testkit.NewVenue(t, ca)
	slow := testkit.NewTCP(t, func(c net.Conn) { // an HTTP proxy that takes its time
		buf := make([]byte, 1024)
		if _, err := c.Read(buf); err != nil {
			return
		}
		time.Sleep(late)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		far, err := net.Dial("tcp", v.Addr)
		if err != nil {
			return
		}
		defer far.Close()
		go func() { _, _ = io.Copy(far, c); _ = far.Close() }() // ends with c
		_, _ = io.Copy(c, far)
	})
	dial, _ := through(t, "http://"+slow.Addr)
	r := Probe(t.Context(), dial, asks(catalog.KindHTTP, host, ca))
	i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Name == StepProxy })
	if r.Verdict != OK || i < 0 || r.Steps[i].Took < late || r.Steps[0].Took >= late {
		t.Errorf("got %s %q %v, want the proxy's step at %v or more", r.Verdict, r.Text, r.Steps, late)
	}
}

// TestConnectionFailures: the verdict of a connection that fails is the class of its error.
func TestConnectionFailures(t *testing.T) {
	t.Parallel()
	ca, other := testkit.NewCA(t), testkit.NewCA(t)
	v := testkit.NewVenue(t, ca)
	expired := testkit.NewTCP(t, tlsAnswer(ca.ExpiredServer(t, host)))
	foreign := testkit.NewTCP(t, tlsAnswer(ca.Server(t, "other.example")))
	plain := testkit.NewTCP(t, testkit.Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	silent := testkit.NewTCP(t, testkit.Hang)
	shut := testkit.NewTCP(t, testkit.Close)
	wrong := testkit.NewTCP(t, func(c net.Conn) {
		s := tls.Server(c, ca.Server(t))
		if s.Handshake() == nil {
			testkit.Say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")(s)
		}
	})
	mute := testkit.NewTCP(t, func(c net.Conn) {
		s := tls.Server(c, ca.Server(t))
		if s.Handshake() == nil {
			testkit.Hang(s)
		}
	})
	for _, c := range []struct {
		name   string
		to     string
		fault  *testkit.Fault
		roots  *testkit.CA
		want   Verdict
		text   string
		unsure bool
	}{
		{"login refused", v.Addr, testkit.On(testkit.AtRequest, testkit.Answer("407 No", "")), ca, "upstream_auth", "", false},
		{"denied", v.Addr, testkit.On(testkit.AtRequest, testkit.Answer("403 No", "")), ca, "upstream_denied", "", false},
		{"garbage", v.Addr, testkit.On(testkit.AtRequest, testkit.Say("SSH-2.0-x\r\n")), ca, "upstream_protocol", "", false},
		{"the proxy is silent", v.Addr, testkit.On(testkit.AtRequest, testkit.Hang), ca, "target_timeout", "silent", true},
		{"502", v.Addr, testkit.On(testkit.AtRequest, testkit.Answer("502 No", "")), ca, "target_unreachable", "", true},
		{"another host's certificate", v.Addr, nil, other, "upstream_tls", `signed by "proxyd test CA"`, false},
		{"a certificate for another name", foreign.Addr, nil, ca, "upstream_tls", `is for "other.example"`, false},
		{"an expired certificate", expired.Addr, nil, ca, Unknown, "not valid now", false},
		{"an expired certificate of another host", expired.Addr, nil, other, "upstream_tls", "signed by", false},
		{"no TLS", plain.Addr, nil, ca, "upstream_protocol", "does not speak TLS", false},
		{"silent at TLS", silent.Addr, nil, ca, "target_timeout", "silent at the TLS handshake", true},
		{"closed at TLS", shut.Addr, nil, ca, "target_unreachable", "ended at the TLS handshake", true},
		{"silent at HTTP", mute.Addr, nil, ca, "target_timeout", "silent at the answer", true},
		{"an upgrade by a server that did not read it", wrong.Addr, nil, ca, Unknown, "Sec-WebSocket-Accept", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{host: c.to}, Fault: c.fault})
			dial, _ := through(t, proxy.URL())
			kind := catalog.KindHTTP
			if c.to == wrong.Addr {
				kind = catalog.KindWebsocket
			}
			a := asks(kind, host, c.roots)
			a.Timeout = 500 * time.Millisecond
			r := Probe(t.Context(), dial, a)
			if r.Verdict != c.want || !strings.Contains(r.Text, c.text) || r.Unsure != c.unsure {
				t.Errorf("got %s, %q, unsure %v; want %s with %q, unsure %v", r.Verdict, r.Text, r.Unsure, c.want, c.text, c.unsure)
			}
		})
	}
}

func tlsAnswer(conf *tls.Config) func(net.Conn) {
	return func(c net.Conn) {
		s := tls.Server(c, conf)
		if s.Handshake() == nil {
			testkit.Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")(s)
		}
	}
}

// TestReach: tcp finds an upstream that is gone, and nothing more.
func TestReach(t *testing.T) {
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtAccept, testkit.Close)})
	_, reach := through(t, proxy.URL())
	if r := Probe(t.Context(), nil, Ask{Method: TCP, Reach: reach}); r.Verdict != OK {
		t.Errorf("one that accepts: %s, %q", r.Verdict, r.Text)
	}
	proxy.Stop()
	if r := Probe(t.Context(), nil, Ask{Method: TCP, Reach: reach}); r.Verdict != "upstream_refused" {
		t.Errorf("one that is gone: %s, %q", r.Verdict, r.Text)
	}
}

// TestSilentFeed: an upgrade is a success though nothing follows, and the wait
// for it is short.
func TestSilentFeed(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	v := testkit.NewVenue(t, ca)
	v.Answer(testkit.VenueReply{Mute: true})
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{host: v.Addr}})
	dial, _ := through(t, proxy.URL())
	r := Probe(t.Context(), dial, asks(catalog.KindWebsocket, host, ca))
	if r.Verdict != OK || !strings.Contains(r.Text, "no message") || slices.Contains(names(r.Steps), StepMessage) || r.Took > 4*time.Second {
		t.Errorf("got %s, %q, %v in %v", r.Verdict, r.Text, r.Steps, r.Took)
	}
}

// TestBrokenOff: the end of the caller blames no upstream, and ends the probe.
func TestBrokenOff(t *testing.T) {
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtRequest, testkit.Hang)})
	dial, _ := through(t, proxy.URL())
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	a := asks(catalog.KindHTTP, host, testkit.NewCA(t))
	a.Timeout = testkit.Patience
	if r := Probe(ctx, dial, a); r.Verdict != Unknown || r.Took > slack/2 {
		t.Errorf("got %s, %q after %v", r.Verdict, r.Text, r.Took)
	}
}
