//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// bybitStream sends the trades that a client of bybit subscribes to.
func bybitStream(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	ctx := r.Context()
	var ask struct {
		ID   json.RawMessage `json:"req_id"`
		Args []string        `json:"args"`
	}
	if wsjson.Read(ctx, c, &ask) != nil || len(ask.Args) == 0 {
		return
	}
	// pybit notes a subscription after it has sent it: it does not know the answer to
	// one that comes at once.
	time.Sleep(100 * time.Millisecond)
	_ = wsjson.Write(ctx, c, map[string]any{"success": true, "ret_msg": "", "conn_id": "1", "req_id": ask.ID, "op": "subscribe"})
	ctx = c.CloseRead(ctx) // answers pings, and the client's close
	for i := 1; ; i++ {
		now := time.Now().UnixMilli()
		trade := map[string]any{"i": fmt.Sprint(i), "T": now, "p": "50000.01", "v": "0.5", "S": "Buy", "s": "BTCUSDT", "BT": false}
		if wsjson.Write(ctx, c, map[string]any{"topic": ask.Args[0], "type": "snapshot", "ts": now, "data": []any{trade}}) != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
