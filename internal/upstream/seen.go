package upstream

import (
	"time"

	"proxyd/internal/catalog"
)

// A websocket tunnel that ends so soon, though the client has sent a request,
// looks like an exchange that turns the exit away; so many in a row are worth a
// warning. How many bytes came tells nothing: a TLS handshake alone is several KiB.
const (
	shortTime    = 5 * time.Second
	shortWarn    = 3
	carriedBytes = 2 << 10 // what an exchange sends in a longer time if it serves the client
)

// Ended takes in that a tunnel for an exchange has ended: after how long, and
// with how many bytes from the client and from the exchange. When websocket
// tunnels of the pair end at once it returns how many did in a row, once for each
// row of them, else 0.
func (u *Upstream) Ended(exchange string, kind catalog.Kind, lived time.Duration, up, down int64) (short int) {
	pr := u.exchange(exchange, kind)
	if lived >= shortTime {
		if down >= carriedBytes {
			pr.carried.Store(u.shared.elapsed(u.shared.now()))
		}
		pr.row.Store(0)
		return 0
	}
	if kind != catalog.KindWebsocket || up == 0 {
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
