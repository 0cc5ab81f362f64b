package upstream

import (
	"time"

	"proxyd/internal/catalog"
)

// A websocket tunnel that ends so soon with so little looks like an exchange
// that turns the exit away; so many in a row are worth a warning.
const (
	shortTime  = 5 * time.Second
	shortBytes = 2 << 10
	shortWarn  = 3
)

// Ended takes in that a tunnel for an exchange has ended, after how long and
// how many bytes from the exchange. When websocket tunnels of the pair end at
// once it says how many did in a row, once for each row of them, else 0.
func (u *Upstream) Ended(exchange string, kind catalog.Kind, lived time.Duration, down int64) (short int) {
	pr := u.pair(exchange, kind)
	switch long, much := lived >= shortTime, down >= shortBytes; {
	case long && much: // a handshake and a refusal are more than that, too
		pr.carried.Store(u.shared.elapsed(u.shared.now()))
		fallthrough
	case long || much:
		pr.row.Store(0)
		return 0
	}
	if kind != catalog.KindWebsocket {
		return 0
	}
	pr.short.Add(1)
	if pr.row.Add(1) != shortWarn {
		return 0
	}
	return shortWarn
}

// Seen is when a way of u for an exchange and a kind was last opened, by traffic
// or a probe, and when a tunnel last showed that the exchange is content: an open
// websocket shows it now. The zero time: never.
func (u *Upstream) Seen(exchange string, kind catalog.Kind) (opened, carried time.Time) {
	pr := u.known(exchange, kind)
	if pr == nil {
		return opened, carried
	}
	if at := pr.measured.Load(); at != 0 {
		opened = u.shared.start.Add(time.Duration(at))
	}
	if pr.contradicted(kind) {
		carried = u.shared.now()
	} else if at := pr.carried.Load(); at != 0 {
		carried = u.shared.start.Add(time.Duration(at))
	}
	return opened, carried
}
