package page

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"proxyd/internal/testkit"
)

// browser is one Chromium for all tests; each test has a tab, and its cookies and
// passwords, of its own.
var (
	browser    context.Context
	browserLog testkit.Output
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // it runs as root in a container, and sees this repository's page alone
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("host-resolver-rules", "MAP "+rebound+" 127.0.0.1"),
		chromedp.WSURLReadTimeout(time.Minute),
		chromedp.CombinedOutput(&browserLog),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	var end context.CancelFunc
	browser, end = chromedp.NewContext(allocator)
	defer end()
	if err := chromedp.Do(browser); err != nil {
		fmt.Fprintln(os.Stderr, "no browser (Debian: apt-get install chromium):", err)
		return 1
	}
	defer removeBinary()
	return m.Run()
}

// tab is a page in the browser. What it must never do is an error when the test
// ends: a line on the console, a request to another host, an exception.
type tab struct {
	t    *testing.T
	ctx  context.Context
	host string // that it may ask

	mu       sync.Mutex
	wrong    []string
	expected []string // in what is wrong
}

// newTab opens an empty tab that may ask the server of address alone.
func newTab(t *testing.T, address string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	b := &tab{t: t, ctx: ctx, host: u.Host}
	if err := chromedp.Listen(ctx, b.heard); err != nil {
		t.Fatal(err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	t.Cleanup(func() {
		if t.Failed() && browser.Err() != nil {
			log := browserLog.String()
			t.Logf("the browser has ended: %v\n%s", context.Cause(browser), log[max(0, len(log)-4000):])
		} else if t.Failed() {
			t.Logf("the page when the test failed:\n%s", b.text("body"))
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, w := range b.wrong {
			if !slices.ContainsFunc(b.expected, func(e string) bool { return strings.Contains(w, e) }) {
				t.Error(w)
			}
		}
	})
	return b
}

// load opens the page and waits until its script has drawn it.
func load(t *testing.T, address string) *tab {
	t.Helper()
	b := newTab(t, address)
	b.run(chromedp.Navigate(address))
	b.ready()
	return b
}

// ready waits until the script has drawn what the stream has sent.
func (b *tab) ready() {
	b.t.Helper()
	b.shows(5*time.Second, "#views", "Overview")
	b.shows(5*time.Second, "#live", "as of")
	b.waits(5*time.Second, "main", func() bool {
		return eval[bool](b, "Boolean(document.querySelector('nav a[aria-current]') || document.querySelector('h2.title'))")
	})
}

// heard notes what must not happen.
func (b *tab) heard(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.wrong = append(b.wrong, "console: "+e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		b.wrong = append(b.wrong, fmt.Sprintf("console.%s", e.Type))
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		b.wrong = append(b.wrong, "exception: "+text)
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Host != b.host {
			b.wrong = append(b.wrong, "it asked for "+e.Request.URL)
		}
	}
}

// forgive expects what holds words on the console, since the test causes it.
func (b *tab) forgive(words ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, words...)
}

// patience is how long one action of the browser may take.
const patience = 20 * time.Second

func (b *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// call runs one command of the browser's protocol.
func call[P, R any](b *tab, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	r, err := chromedp.Call(ctx, cmd, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// eval returns the value of a script.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Errorf("%s: %v", script, err)
	}
	return v
}

// text returns the visible text of an element, "" if there is none.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// shows waits until an element's text has words, and fails after d.
func (b *tab) shows(d time.Duration, selector, words string) {
	b.t.Helper()
	b.waits(d, fmt.Sprintf("%q in %s", words, selector), func() bool { return strings.Contains(b.text(selector), words) })
}

func (b *tab) waits(d time.Duration, what string, done func() bool) {
	b.t.Helper()
	for end := time.Now().Add(d); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("no %s within %v", what, d)
		}
	}
}

// click clicks with the mouse on the first link or button of that name below an
// element.
func (b *tab) click(below, name string) {
	b.t.Helper()
	b.run(chromedp.Click(fmt.Sprintf("//%s//*[self::a or self::button][normalize-space()=%q]", below, name)))
}

// press sends keys, as a person does.
func (b *tab) press(keys string) {
	b.t.Helper()
	b.run(chromedp.KeyEvent(keys))
}

// size sets the window's width in CSS pixels, and whether the system is dark.
func (b *tab) size(width int64, dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// picture returns a PNG of the first height pixels of the page, at most.
func (b *tab) picture(width, height float64) []byte {
	b.t.Helper()
	beyond := true
	layout := call(b, page.GetLayoutMetrics, cdp.Empty{})
	r := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{
		CaptureBeyondViewport: &beyond,
		Clip:                  &page.Viewport{Width: width, Height: min(height, layout.CSSContentSize.Height), Scale: 1},
	})
	return r.Data
}
