//go:build interop

package interop

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"proxyd/internal/testkit"
)

// detector stands behind every name that this network knows: whoever looks one up, or
// connects, has gone past proxyd.
type detector struct {
	mu    sync.Mutex
	leaks []string
}

const detectorAddr = "127.0.0.66"

func (d *detector) leak(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leaks = append(d.leaks, fmt.Sprintf(format, args...))
}

// taken returns the leaks so far, and forgets them.
func (d *detector) taken() (leaks []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	leaks, d.leaks = d.leaks, nil
	return leaks
}

// detectNames makes programs ask the detector for every name.
func detectNames(t *testing.T) {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	overlay(t, "hosts", "127.0.0.1 localhost "+host+"\n")
	overlay(t, "resolv.conf", "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
	overlay(t, "nsswitch.conf", "hosts: files dns\n")
}

// seen reports whether there are leaks.
func (d *detector) seen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.leaks) > 0
}

// newDetector answers every name with its own address, and listens there.
func newDetector(t *testing.T) *detector {
	t.Helper()
	d := &detector{}
	dns, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	t.Cleanup(func() { _ = dns.Close(); ended.Wait() })
	ended.Go(func() { // ends when dns is closed
		block := make([]byte, 4096)
		for {
			n, from, err := dns.ReadFrom(block)
			if err != nil {
				return
			}
			name, answer := answerTo(block[:n])
			d.leak("looked up %s", name)
			_, _ = dns.WriteTo(answer, from)
		}
	})
	for _, port := range []string{"80", "443", "9443"} {
		ln, err := net.Listen("tcp", detectorAddr+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		ended.Go(func() { // ends when ln is closed
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				d.leak("connected to port %s", port)
				_ = c.Close()
			}
		})
	}
	return d
}

// answerTo returns the name that a DNS question asks for, and an answer: for A that
// of the detector, for all else none.
func answerTo(question []byte) (name string, answer []byte) {
	if len(question) < 17 {
		return "?", nil
	}
	at := 12
	for at < len(question)-5 && question[at] != 0 {
		end := min(at+1+int(question[at]), len(question)-5)
		name += string(question[at+1:end]) + "."
		at = end
	}
	answer = append(append([]byte{}, question[:2]...), 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	answer = append(answer, question[12:at+5]...)
	if binary.BigEndian.Uint16(question[at+1:]) == 1 {
		answer[7] = 1
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 66)
	}
	return name, answer
}

// binance is as much of an exchange as cryptofeed and ccxt ask for trades of BTC-USDT.
type binance struct {
	addr, ca string
	mu       sync.Mutex
	asked    []string // "host path"
	logins   []string // Authorization headers
}

func newBinance(t *testing.T) *binance {
	t.Helper()
	ca := testkit.NewCA(t)
	b := &binance{ca: filepath.Join(dir, "ca.pem")}
	pem, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	file(t, "ca.pem", string(pem))
	config := ca.Server(t)
	// Python's ssl may read in one thread and write in another, as websockets' sync
	// client does; a ticket that comes at that moment can block both for ever.
	config.SessionTicketsDisabled = true
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	b.addr = ln.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(b.serve)}
	var ended sync.WaitGroup
	ended.Go(func() { _ = server.Serve(ln) }) // ends with Close
	t.Cleanup(func() { _ = server.Close(); ended.Wait() })
	return b
}

const exchangeInfo = `{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","isSpotTradingAllowed":true,"permissions":["SPOT"],
"filters":[{"filterType":"PRICE_FILTER","minPrice":"0.01","maxPrice":"1000000","tickSize":"0.01"},{"filterType":"LOT_SIZE","minQty":"0.00001","maxQty":"9000","stepSize":"0.00001"}]}]}`

// answers are what REST asks for, by path.
var answers = map[string]string{
	"/api/v3/ping":         `{}`,
	"/api/v3/time":         `{"serverTime":1760000000000}`,
	"/api/v3/exchangeInfo": exchangeInfo,
	"/api/v3/aggTrades":    `[{"a":1,"p":"50000.01","q":"0.5","f":1,"l":1,"T":1760000000000,"m":true,"M":true}]`,
	"/v5/market/time":      `{"retCode":0,"retMsg":"OK","result":{"timeSecond":"1760000000","timeNano":"1760000000000000000"},"retExtInfo":{},"time":1760000000000}`,
}

func (b *binance) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.asked = append(b.asked, r.Host+" "+r.URL.Path)
	if a := r.Header.Get("Authorization"); a != "" {
		b.logins = append(b.logins, a+" at "+r.Host)
	}
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	answer, known := answers[r.URL.Path]
	switch {
	case r.Header.Get("Upgrade") != "" && strings.HasSuffix(r.Host, "bybit.com"):
		bybitStream(w, r)
	case r.Header.Get("Upgrade") != "":
		b.stream(w, r)
	case known:
		_, _ = w.Write([]byte(answer))
	default:
		_, _ = w.Write([]byte(`{"symbols":[]}`))
	}
}

// stream sends trades: as they are asked for, or by the names in the query.
func (b *binance) stream(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	ctx := r.Context()
	event, combined := "aggTrade", r.URL.Query().Get("streams")
	switch {
	case strings.HasSuffix(r.URL.Path, "@trade"):
		event = "trade"
	case combined == "":
		var ask struct {
			ID     json.RawMessage `json:"id"` // a number, or text
			Params []string        `json:"params"`
		}
		if err := wsjson.Read(ctx, c, &ask); err != nil {
			return
		}
		_ = wsjson.Write(ctx, c, map[string]any{"result": nil, "id": ask.ID})
		event = "trade"
		if r.URL.Path == "/stream" && len(ask.Params) > 0 {
			combined = ask.Params[0]
		}
	}
	ctx = c.CloseRead(ctx) // answers pings, and the client's close
	for i := 1; ; i++ {
		now := time.Now().UnixMilli()
		trade := map[string]any{"e": event, "E": now, "s": "BTCUSDT", "a": i, "t": i, "p": "50000.01", "q": "0.5", "f": i, "l": i, "T": now, "m": true, "M": true}
		var message any = trade
		if combined != "" {
			message = map[string]any{"stream": combined, "data": trade}
		}
		if err := wsjson.Write(ctx, c, message); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b *binance) taken() (asked, logins []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked, logins, b.asked, b.logins = b.asked, b.logins, nil, nil
	return asked, logins
}
