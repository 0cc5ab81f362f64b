//go:build interop

package interop

import (
	"context"
	"debug/elf"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

const nobody = 65534 // a user without rights

// unaware are the clients of TestUnawarePrograms: those that know of no proxy, or are said to
// use none. What is compiled is one static binary without libc.
var unaware = []string{"aiohttp", "websockets12", "asyncio", "node-https", "ws", "net-http", "gobwas", "java-httpclient"}

// noProxyCurl is curl that is said to use no proxy, though its environment has one.
var noProxyCurl = &client{id: "curl-noproxy", language: "curl", parts: map[string]string{"rest": "curl -sS --noproxy '*' https://api.binance.com/api/v3/time\n"}}

// quicGo asks by HTTP/3 and then by TCP, as browsers do.
var quicGo = &client{id: "quic-go", language: "go", parts: map[string]string{"rest": `package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/quic-go/quic-go/http3"
)

func main() {
	const url = "https://api.binance.com/api/v3/time"
	start := time.Now()
	quic := &http.Client{Transport: &http3.Transport{}}
	response, err := quic.Get(url)
	if err != nil {
		log.Printf("QUIC failed after %d ms: %v", time.Since(start).Milliseconds(), err)
		response, err = http.Get(url)
	}
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
}
`}}

// stray sends to addresses of both families, by UDP and TCP, and gets no answer.
var stray = &client{id: "stray", language: "python", venv: "main", parts: map[string]string{"rest": `import socket
for family, address in ((socket.AF_INET, "203.0.113.66"), (socket.AF_INET6, "2001:db8:66::66")):
    for kind, port in ((socket.SOCK_DGRAM, 443), (socket.SOCK_DGRAM, 123), (socket.SOCK_STREAM, 443), (socket.SOCK_STREAM, 5432)):
        with socket.socket(family, kind) as s:
            s.settimeout(0.2)
            try:
                s.connect((address, port))
                s.send(b"out")
                print("answered:", s.recv(9))
            except OSError as e:
                print("no answer:", e)
`}}

var quicFailed = regexp.MustCompile(`QUIC failed after (\d+) ms: `)

// check holds a run to what it has printed, and to what its upstreams were asked.
func (r *programRun) check(t *testing.T) {
	t.Helper()
	if r.ended.err != nil || !r.ended.printed(r.kind) {
		t.Errorf("%v, printed:\n%s", r.ended.err, r.ended.all())
	}
	through, other, host := r.rest, r.stream, "api.binance.com 443"
	if r.kind == "websocket" {
		through, other, host = r.stream, r.rest, "stream.binance.com 9443"
	}
	asked := map[string]int{}
	for _, a := range through.Asked() {
		asked[a.Host+" "+a.Port]++
	}
	if len(asked) != 1 || asked[host] == 0 || len(other.Asked()) != 0 {
		t.Errorf("the upstream was asked for %v, want only %s; the one of the other kind %d times", asked, host, len(other.Asked()))
	}
	if r.client != quicGo {
		return
	}
	if m := quicFailed.FindStringSubmatch(r.ended.all()); m == nil {
		t.Errorf("QUIC has not failed:\n%s", r.ended.all())
	} else if ms, err := strconv.Atoi(m[1]); err != nil || ms > quicLimit {
		t.Errorf("QUIC has failed after %s ms, want at most %d", m[1], quicLimit)
	}
}

// TestUnawarePrograms runs programs that know of no proxy as root and as another user, under
// proxyd exec --isolate and behind the rules of proxyd nft, and counts the packets.
//
// Promise (security): programs that know of no proxy reach their exchange through the upstreams alone under proxyd exec --isolate, as root and as another user; not one packet goes out otherwise, over IPv4, IPv6 or UDP.
// Promise (security): so they do behind the rules of proxyd nft.
func TestUnawarePrograms(t *testing.T) {
	if os.Getenv("CLIENTS_NODE20") == "" {
		t.Skip("run by interop/clients.sh")
	}
	t.Setenv("CGO_ENABLED", "0")
	o := newOuter(t)
	list := []*client{noProxyCurl, quicGo}
	for _, c := range readClients(t) {
		if slices.Contains(unaware, c.id) {
			list = append(list, c)
		}
	}
	if len(list) != len(unaware)+2 {
		t.Fatalf("not all of %v are in interop/clients", unaware)
	}
	buildClients(t, list)
	run(t, "the binary of Go's programs is static", func(t *testing.T) { isStatic(t, filepath.Join(dir, "built", "gobwas")) })

	var plain []*programRun
	each := func(kinds func(c *client, kind string)) {
		for _, c := range list {
			for _, kind := range []string{"rest", "websocket"} {
				if c.parts[kind] != "" {
					kinds(c, kind)
				}
			}
		}
	}
	each(func(c *client, kind string) {
		plain = append(plain, o.add(t, fmt.Sprintf("%s, %s, as it is", c.id, kind), c, kind, 0, ""))
	})
	o.goOut(t, plain)

	var inside []*programRun
	for _, uid := range []uint32{0, nobody} {
		each(func(c *client, kind string) {
			inside = append(inside, o.add(t, fmt.Sprintf("%s, %s, isolated, user %d", c.id, kind, uid), c, kind, uid, ""))
		})
	}
	var strays []*programRun
	for _, uid := range []uint32{0, nobody} {
		strays = append(strays, o.add(t, fmt.Sprintf("addresses by UDP, TCP and IPv6, isolated, user %d", uid), stray, "rest", uid, ""))
	}
	o.count(t)
	o.runAll(t, append(strays, inside...), o.isolated)
	for _, r := range strays {
		run(t, r.name, func(t *testing.T) {
			if out := r.ended.stdout.String(); r.ended.err != nil || strings.Count(out, "no answer: ") != 8 || strings.Count(out, "not permitted") != 4 {
				t.Errorf("%v, printed:\n%s", r.ended.err, r.ended.all())
			}
			if n := len(r.rest.Asked()) + len(r.stream.Asked()); n > 0 {
				t.Errorf("the upstreams were asked %d times", n)
			}
		})
	}
	for _, r := range inside {
		run(t, r.name, func(t *testing.T) {
			r.check(t)
			if through := map[string]*testkit.Proxy{"rest": r.rest, "websocket": r.stream}[r.kind].Addr; !strings.Contains(r.ended.stderr.String(), "through "+through) {
				t.Errorf("proxyd exec does not name the upstream %s:\n%s", through, r.ended.stderr.String())
			}
		})
	}
	run(t, "not one packet of isolated programs goes out", func(t *testing.T) {
		if packets := counted(t); len(packets) > 0 {
			t.Errorf("packets went out: %v", packets)
		}
	})
	o.redirected(t, each)
}

// isStatic fails for a program that needs a loader.
func isStatic(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
		t.Errorf("%s is linked dynamically", path)
	}
}

// goOut shows that the counters count: each program as it is, and one packet of each protocol.
func (o *outer) goOut(t *testing.T, runs []*programRun) {
	for _, r := range runs {
		run(t, r.name, func(t *testing.T) {
			o.count(t)
			ctx, cancel := context.WithTimeout(t.Context(), runTime)
			defer cancel()
			cmd, err := o.start(ctx, r, r.argv)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { // ends with the program, which cancel ends
				_ = cmd.Wait()
				close(ended)
			}()
			out := []string{"tcp4", "tcp6"}
			if r.client == quicGo {
				out = []string{"udp4", "udp6"}
			}
			testkit.Eventually(t, runTime, "a packet is counted", func() bool {
				packets := counted(t)
				return packets["names"] > 0 && packets[out[0]]+packets[out[1]] > 0
			})
			cancel()
			<-ended
			if n := len(r.rest.Asked()) + len(r.stream.Asked()); n > 0 {
				t.Errorf("the upstreams were asked %d times", n)
			}
		})
	}
	run(t, "packets of each protocol are counted", func(t *testing.T) {
		o.count(t)
		r := o.add(t, "", stray, "rest", 0, "")
		if o.runAll(t, []*programRun{r}, func(*programRun) []string { return r.argv }); r.ended.err != nil {
			t.Errorf("%v, printed:\n%s", r.ended.err, r.ended.all())
		}
		for network, address := range map[string]string{"ip:icmp": siteAddr, "ip6:ipv6-icmp": siteAddr6, "udp": "127.0.0.1:9"} {
			if c, err := net.Dial(network, address); err == nil {
				_, _ = c.Write([]byte{128, 0, 0, 0, 0, 0, 0, 0})
				_ = c.Close()
			}
		}
		if _, err := net.LookupHost("api.binance.com"); err != nil {
			t.Error(err)
		}
		packets := counted(t)
		if seen := slices.Sorted(maps.Keys(packets)); !slices.Equal(seen, slices.Sorted(slices.Values(counters))) {
			t.Errorf("counted: %v", packets)
		}
	})
}

// redirected runs the programs as a user whose connections the rules of proxyd nft redirect.
func (o *outer) redirected(t *testing.T, each func(func(c *client, kind string))) {
	var list []*programRun
	each(func(c *client, kind string) {
		if slices.Contains([]string{"curl-noproxy", "quic-go", "aiohttp", "gobwas", "net-http", "java-httpclient"}, c.id) {
			list = append(list, o.add(t, fmt.Sprintf("%s, %s, redirected", c.id, kind), c, kind, feedUser, fmt.Sprintf("listen: [{address: %q, transparent: true}, {address: %q, transparent: true}]\n", listener, listener6)))
		}
	})
	rules, err := exec.Command(os.Getenv("INTEROP_PROXYD"), "nft", "-c", list[0].config, "--uid", strconv.Itoa(feedUser)).Output()
	if err != nil {
		t.Fatal(err)
	}
	system(t, string(rules), "nft", "-f", "-")
	for _, r := range list { // one by one: each has the listener
		run(t, r.name, func(t *testing.T) {
			o.count(t, portOf(listener))
			d := startDaemon(t, r.config)
			defer d.stop()
			o.runAll(t, []*programRun{r}, func(*programRun) []string { return r.argv })
			r.check(t)
			packets := counted(t)
			if packets["names"] == 0 {
				t.Error("it has not looked the name up")
			}
			if delete(packets, "names"); len(packets) > 0 {
				t.Errorf("packets went out: %v", packets)
			}
			if !strings.Contains(d.out.String(), `"protocol":"transparent"`) {
				t.Errorf("no redirected tunnel:\n%s", d.out.String())
			}
		})
	}
	system(t, "", "nft", "delete", "table", "inet", "proxyd")
}
