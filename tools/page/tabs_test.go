package page

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// beside opens another tab in the same window, which hides this one and shares its
// connections.
func (b *tab) beside() *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewWindow(false))
	b.t.Cleanup(cancel)
	o := &tab{t: b.t, ctx: ctx, host: b.host}
	if err := chromedp.Listen(ctx, o.heard); err != nil {
		b.t.Fatal(err)
	}
	call(o, network.Enable, network.EnableParams{})
	call(o, log.Enable, cdp.Empty{})
	call(o, runtime.Enable, cdp.Empty{})
	return o
}

// A browser opens at most six connections to one address. Tabs that nobody looks at
// must not use them up, or the next one would never load.
func TestMoreTabsThanConnections(t *testing.T) {
	w := newWorld(t, "")
	first := load(t, w.Page)
	for range 8 {
		next := first.beside()
		next.run(chromedp.Navigate(w.Page))
		next.ready()
		next.mu.Lock()
		for _, wrong := range next.wrong {
			t.Error(wrong)
		}
		next.mu.Unlock()
	}
	if state := eval[string](first, "document.visibilityState"); state != "hidden" {
		t.Fatalf("the first tab is %s", state)
	}
	w.follow(w.x, futures, "/ticker?ms=50")
	first.waits(15*time.Second, "a title that says what is", func() bool { return strings.Contains(eval[string](first, "document.title"), "1 tunnel") })
	call(first, page.BringToFront, cdp.Empty{})
	w.follow(w.x, okx, "/ticker?ms=50")
	first.shows(2*time.Second, "#news h1", "ok: 2 tunnels")
}
