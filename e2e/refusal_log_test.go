package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/testkit"
)

// refusals are the lines of refused requests, parsed.
func (p *proxyd) refusals(t *testing.T) (list []map[string]any) {
	t.Helper()
	for line := range strings.Lines(p.Log.String()) {
		var fields map[string]any
		if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == "refused" {
			list = append(list, fields)
		}
	}
	return list
}

// What to do about a refusal stands in the log, where SOCKS clients and most HTTP
// clients show nothing of it.
func TestRefusalSaysInTheLogWhatToDo(t *testing.T) {
	t.Parallel()
	p := start(t, "default: reject\nexchanges: {binance: direct}\n")
	ip := "\x34\x01\x02\x03" // 52.1.2.3
	for protocol, request := range map[string]string{
		"connect": "CONNECT 52.1.2.3:443 HTTP/1.1\r\nHost: 52.1.2.3\r\n\r\n",
		"http":    "GET http://52.1.2.3/ HTTP/1.1\r\nHost: 52.1.2.3\r\n\r\n",
		"socks5":  "\x05\x01\x00\x05\x01\x00\x01" + ip + "\x01\xbb",
		"socks4":  "\x04\x01\x01\xbb" + ip + "\x00",
	} {
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		var line map[string]any
		testkit.Eventually(t, testkit.Patience, "the line of "+protocol, func() bool {
			for _, l := range p.refusals(t) {
				if l["protocol"] == protocol {
					line = l
				}
			}
			return line != nil
		})
		text, hint := fmt.Sprint(line["text"]), fmt.Sprint(line["hint"])
		if !strings.Contains(text, "this client resolved the name itself") || !strings.Contains(hint, "use socks5h:// or http://") {
			t.Errorf("%s: %q; %q", protocol, text, hint)
		}
	}
}

// A client that is refused another thing each time does not fill the log, and
// hides no other client's refusals.
func TestManyDifferentRefusalsAreFewLines(t *testing.T) {
	t.Parallel()
	const refused, most = 1500, 200
	p := start(t, "default: reject\nexchanges: {binance: direct}\n")
	var all sync.WaitGroup // each ends with its last request
	for w := range 10 {
		all.Go(func() {
			for i := range refused / 10 {
				c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: fmt.Sprintf("h%d-%d.example:443", w, i)})
				if reply.Status != 403 {
					t.Errorf("got %v", reply)
				}
				_ = c.Close()
			}
		})
	}
	all.Wait()
	if n := len(p.refusals(t)); n > most {
		t.Errorf("%d refusals are %d lines", refused, n)
	}
	if runtime.GOOS != "linux" { // elsewhere 127.0.0.2 is no address
		return
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := d.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "CONNECT other.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, testkit.Patience, "the other client's line, and how many are not there", func() bool {
		seen, counted := false, 0
		for _, l := range p.refusals(t) {
			hidden, _ := l["hidden"].(float64)
			counted += 1 + int(hidden)
			seen = seen || l["host"] == "other.example"
		}
		return seen && counted == refused+1
	})
}
