//go:build interop

package interop

import (
	"crypto/tls"
	"encoding/json"
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

// binance is as much of an exchange as cryptofeed and ccxt ask for trades of BTC-USDT.
type binance struct {
	addrs  map[string]string // by kind: the upstream of the kind leads there
	ca     string
	mu     sync.Mutex
	astray []string // what came through the upstream of the other kind
	logins []string // Authorization headers
}

func newBinance(t *testing.T) *binance {
	t.Helper()
	ca := testkit.NewCA(t)
	b := &binance{addrs: map[string]string{}, ca: filepath.Join(dir, "ca.pem")}
	pem, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	file(t, "ca.pem", string(pem))
	config := ca.Server(t)
	// Python's ssl may read in one thread and write in another, as websockets' sync
	// client does; a ticket that comes at that moment can block both for ever.
	config.SessionTicketsDisabled = true
	var ended sync.WaitGroup
	t.Cleanup(ended.Wait)
	for kind := range kindNames {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			t.Fatal(err)
		}
		b.addrs[kind] = ln.Addr().String()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.serve(w, r, kind) })}
		ended.Go(func() { _ = server.Serve(ln) }) // ends with Close
		t.Cleanup(func() { _ = server.Close() })
	}
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

func (b *binance) serve(w http.ResponseWriter, r *http.Request, kind string) {
	upgrade := r.Header.Get("Upgrade") != ""
	b.mu.Lock()
	if upgrade != (kind == "websocket") {
		b.astray = append(b.astray, r.Host+r.URL.Path)
	}
	if a := r.Header.Get("Authorization"); a != "" {
		b.logins = append(b.logins, a+" at "+r.Host)
	}
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	answer, known := answers[r.URL.Path]
	switch {
	case upgrade && strings.HasSuffix(r.Host, "bybit.com"):
		bybitStream(w, r)
	case upgrade:
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

// taken returns what has gone astray and the logins so far, and forgets them.
func (b *binance) taken() (astray, logins []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	astray, logins, b.astray, b.logins = b.astray, b.logins, nil, nil
	return astray, logins
}
