package feed_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/router"
	"proxyd/internal/testkit/routertest"
	"proxyd/internal/tunnel"
)

const twoUpstreams = `
pools: {asia: {proxies: [{name: tokyo-1, url: "http://127.0.0.1:1"}, {name: tokyo-2, url: "http://127.0.0.1:2"}]}}
exchanges:
  okx: {websocket: asia, http: asia}
  kraken: {websocket: reject}
default: reject
`

// records is a Table that is fed with records, on a clock that a test moves. It has
// no live tunnels to sample.
type records struct {
	t      testing.TB
	table  *feed.Table
	router atomic.Pointer[router.Router]
	last   int

	mu     sync.Mutex
	events []event.Event
}

// onClock runs a test with a Table in a bubble of its own time.
func onClock(t *testing.T, text string, test func(r *records)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &records{t: t}
		r.reload(text)
		r.table = feed.New(feed.Options{
			Snapshot: r.router.Load, Each: func(func(tunnel.Live) bool) {}, Emit: r.emit,
		})
		go func() { _ = r.table.Run(t.Context()) }() // ends with the test
		test(r)
	})
}

func (r *records) reload(text string) {
	r.router.Store(routertest.New(r.t, text, nil))
}

func (r *records) emit(e event.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
}

func (r *records) types() (list []event.Type) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		list = append(list, e.Type)
	}
	return list
}

// record returns a record of okx through tokyo-1, changed by edit.
func (r *records) record(e tunnel.Event, kind catalog.Kind, edit func(*tunnel.Record)) *tunnel.Record {
	r.last++
	rec := &tunnel.Record{Event: e, Opening: tunnel.Opening{
		ID: fmt.Sprint(r.last), Host: "ws.okx.com", Exchange: "okx", Kind: kind, Upstream: "tokyo-1", Pool: "asia", Start: time.Now(), Dial: 20 * time.Millisecond,
	}, Slot: new(any)}
	if edit != nil {
		edit(rec)
	}
	return rec
}

// open opens a tunnel; the function that it returns ends it.
func (r *records) open(kind catalog.Kind) (end func(by string, up, down int64)) {
	rec := r.record(tunnel.Opened, kind, nil)
	r.table.Observe(rec)
	return func(by string, up, down int64) {
		end := *rec
		end.Event, end.ClosedBy, end.Reason, end.Up, end.Down = tunnel.Ended, by, "eof", up, down
		end.Duration = time.Since(rec.Start)
		r.table.Observe(&end)
	}
}

func (r *records) refuse(kind catalog.Kind, class failure.Class, edit func(*tunnel.Record)) {
	r.table.Observe(r.record(tunnel.Refused, kind, func(rec *tunnel.Record) {
		rec.Class = class
		if edit != nil {
			edit(rec)
		}
	}))
}

func (r *records) row(exchange, kind string) feed.Exchange {
	r.t.Helper()
	for _, row := range r.table.Report().Exchanges {
		if row.Exchange == exchange && row.Kind == kind {
			return row
		}
	}
	return feed.Exchange{}
}

const (
	ws   = catalog.KindWebsocket
	rest = catalog.KindHTTP
)
