package page

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// rebound is a name that the browser resolves to this machine, as an attacker's
// name server may.
const rebound = "rebound.example"

// foreignPage tries all that a page can against the address %[1]s, and says in
// its title what came of it.
const foreignPage = `<!doctype html><title>trying</title><body><script>
const at = '%[1]s', got = [];
const tries = [
	fetch(at + 'api/v1/status').then((r) => r.text()).then((t) => got.push('status: ' + t)),
	fetch(at + 'api/v1/config', { credentials: 'include' }).then((r) => r.text()).then((t) => got.push('config: ' + t)),
	fetch(at + '-/drain?upstream=tokyo-1', { method: 'POST', headers: { 'X-Proxyd': '1' } }).then((r) => r.text()).then((t) => got.push('drain: ' + t)),
	fetch(at + '-/drain?upstream=tokyo-1', { method: 'POST', mode: 'no-cors' }),
	new Promise((done) => {
		const source = new EventSource(at + 'api/v1/status');
		source.onopen = () => { got.push('a stream'); done(); };
		source.addEventListener('status', (e) => got.push('streamed: ' + e.data));
		source.onerror = () => { source.close(); done(); };
	}),
	import(at + 'page/words.js').then(() => got.push('a script')),
	new Promise((done) => {
		const frame = document.createElement('iframe');
		frame.src = at;
		frame.onload = () => { try { got.push('a frame: ' + frame.contentDocument.body.innerText); } catch { } done(); };
		document.body.append(frame);
		setTimeout(done, 1000);
	}),
];
Promise.allSettled(tries).then(() => { document.title = 'tried: ' + got.filter((g) => !g.endsWith(': ')).join('; '); });
const form = document.createElement('form');
form.method = 'post';
form.action = at + '-/drain?upstream=tokyo-1';
form.target = 'elsewhere';
document.body.append(form);
form.submit();
</script>`

// A page of another origin reads and changes nothing, in a real browser.
func TestPageOfAnotherOriginReadsAndChangesNothing(t *testing.T) {
	w := newWorld(t, "")
	foreign := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(rw, foreignPage, w.Page)
	}))
	defer foreign.Close()
	b := newTab(t, foreign.URL)
	b.forgive("") // what it is refused is on its console
	b.run(chromedp.Navigate(foreign.URL))
	b.waits(10*time.Second, "end of the tries", func() bool { return strings.HasPrefix(eval[string](b, "document.title"), "tried") })
	if got := eval[string](b, "document.title"); strings.TrimSpace(got) != "tried:" {
		t.Errorf("it read: %s", got)
	}
	if status := w.get("/api/v1/status"); strings.Contains(status, "drained") {
		t.Errorf("it drained an upstream:\n%s", status)
	}
}

// A name that is made to lead to this machine shows nothing (DNS rebinding).
func TestPageByAReboundName(t *testing.T) {
	w := newWorld(t, "")
	_, port, _ := strings.Cut(strings.Trim(w.Page[len("http://"):], "/"), ":")
	b := newTab(t, "http://"+rebound+":"+port)
	b.forgive("421", "Cross-Origin-Opener-Policy") // the browser ignores that for such a name
	b.run(chromedp.Navigate("http://" + rebound + ":" + port + "/"))
	if text := b.text("body"); !strings.Contains(text, "admin.hosts") || strings.Contains(text, "tokyo-1") {
		t.Errorf("it shows:\n%s", text)
	}
}
