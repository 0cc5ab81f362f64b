package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// A tunnel that matches when the command is given, and carries again when its turn
// comes, is no longer meant.
//
// Promise (data path): proxyd close --quiet TIME --over TIME does not end a tunnel on which the
// exchange has begun to send again.
func TestCloseOfQuietTunnelsSparesThoseThatCarryAgain(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": echo.Addr}})
	p := launch(t, "", fmt.Sprintf("admin: unix:%s/admin\ndefault: %q\n", t.TempDir(), proxy.URL()))
	var conns [4]*testkit.Conn
	for i := range conns {
		conns[i] = p.tunnel(t, "stream.binance.com:9443")
	}
	testkit.Eventually(t, testkit.Patience, "all are quiet", func() bool {
		out, _ := p.command(t, "tunnels", "--quiet", "2s", "--format", "json")
		return strings.Count(out, `"id"`) == len(conns)
	})
	if out, code := p.command(t, "close", "--exchange", "binance", "--quiet", "2s", "--over", "4"); code != 0 || !strings.HasPrefix(out, "closing 4 tunnels") {
		t.Fatalf("%d %s", code, out)
	}
	var carrying sync.WaitGroup
	ended := make(chan struct{})
	for _, c := range conns[1:3] {
		carrying.Go(func() { // ends with the other tunnels
			for over := false; !over; {
				select {
				case <-ended:
					over = true
				case <-time.After(50 * time.Millisecond):
				}
				_ = c.SetDeadline(time.Now().Add(testkit.Patience))
				if _, err := c.TCPConn.Write([]byte("x")); err != nil {
					t.Errorf("a tunnel that carries was closed: %v", err)
					return
				}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Errorf("a tunnel that carries was closed: %v", err)
					return
				}
			}
		})
	}
	for _, c := range []*testkit.Conn{conns[0], conns[3]} { // the last one's turn is after the others'
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("it goes on: %d bytes, %v", n, err)
		}
	}
	close(ended)
	carrying.Wait()
}

// What an operator closes ends, and nothing else.
//
// Promise (data path): proxyd close ends the tunnels that match all of its filters,
// at once or spread over a time, and no other.
func TestCloseEndsWhatMatches(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	to := map[string]string{"*": echo.Addr}
	a, b := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to}), testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to})
	socket := t.TempDir() + "/admin"
	p := launch(t, "", fmt.Sprintf("admin: unix:%s\npools: {tokyo: {proxies: [{name: tokyo-1, url: %q}]}, osaka: {proxies: [{name: osaka-1, url: %q}]}}\n"+
		"exchanges: {binance: tokyo, okx: {websocket: tokyo, http: osaka}}\ndefault: reject\n", socket, a.URL(), b.URL()))
	open := func(n int, target string) (list []*testkit.Conn) {
		for range n {
			list = append(list, p.tunnel(t, target))
		}
		return list
	}
	call := func(code int, want string, args ...string) string {
		t.Helper()
		out, got := p.command(t, args...)
		if got != code || !strings.Contains(out, want) {
			t.Errorf("proxyd %v: %d, %s", args, got, out)
		}
		return out
	}
	type row struct {
		ID, Host  string
		Quiet     float64 `json:"quiet_seconds"`
		BytesDown int64   `json:"bytes_down"`
	}
	list := func(args ...string) (rows []row) {
		t.Helper()
		out := call(0, "", append(args, "--format", "json")...)
		if err := json.Unmarshal([]byte(out), &rows); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return rows
	}
	gone := func(conns []*testkit.Conn) {
		t.Helper()
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("it goes on: %d bytes, %v", n, err)
			}
		}
	}
	binance, okx, rest := open(3, "stream.binance.com:9443"), open(4, "ws.okx.com:8443"), open(2, "www.okx.com:443")

	if rows := list("tunnels"); len(rows) != 9 || rows[0].Quiet < rows[8].Quiet || rows[0].BytesDown == 0 {
		t.Errorf("%d tunnels, %+v", len(rows), rows)
	}
	if rows := list("tunnels", "--exchange", "OKX", "--kind", "ws", "--upstream", "Tokyo-1"); len(rows) != 4 || rows[0].Host != "ws.okx.com" {
		t.Errorf("%d tunnels, %+v", len(rows), rows)
	}
	call(0, "QUIET", "tunnels", "--exchange", "binance")
	call(0, "no open tunnel matches\n", "tunnels", "--quiet", "1h")
	call(1, "there are: direct, osaka-1, tokyo-1", "tunnels", "--upstream", "kyoto-1")
	call(1, `there is no exchange "nowhere"`, "close", "--exchange", "nowhere")
	call(1, "no open tunnel matches: binance through osaka-1", "close", "--exchange", "binance", "--upstream", "osaka-1")
	call(0, "would close 4 tunnels of okx websocket\n", "close", "--exchange", "okx", "--kind", "websocket", "--dry-run")
	works(okx[0])

	call(0, "closed 4 tunnels of okx websocket through tokyo-1\n", "close", "--exchange", "okx", "--kind", "websocket", "--upstream", "tokyo-1")
	gone(okx)
	one := list("tunnels", "--exchange", "binance")[0].ID
	call(0, "closed 1 tunnel with the id "+one+"\n", "close", "--id", one)
	call(0, "closing 2 tunnels of okx, spread over 1 s\n", "close", "--exchange", "okx", "--over", "1")
	gone(rest)
	testkit.Eventually(t, testkit.Patience, "two are left", func() bool { return len(list("tunnels")) == 2 })
	left := 0
	for _, c := range binance {
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		if _, err := c.TCPConn.Write([]byte("x")); err == nil {
			if n, _ := c.Read(make([]byte, 1)); n == 1 {
				left++
			}
		}
	}
	if left != 2 {
		t.Errorf("%d tunnels to binance work, want 2", left)
	}
	if n := strings.Count(p.Log.String(), `"closed_by":"proxyd","reason":"closed"`); n != 7 {
		t.Errorf("%d tunnels were closed by proxyd, want 7", n)
	}
	if want := `4 tunnels of okx websocket through tokyo-1 closed by the operator`; !strings.Contains(p.Log.String(), want) {
		t.Errorf("no event %q in the log", want)
	}
}
