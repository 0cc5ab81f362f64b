package catalog

import (
	"encoding/csv"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/target"
)

// rows reads a file of the embedded data, without its header.
func rows(t *testing.T, name string) [][]string {
	t.Helper()
	text, err := data.ReadFile("data/" + name + ".csv")
	if err != nil {
		t.Fatal(err)
	}
	list, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return list[1:]
}

// The files themselves: sorted, unquoted, LF, ASCII, as their README says.
func TestFiles(t *testing.T) {
	for _, name := range []string{"hosts", "aliases", "domains", "families", "probes", "limits", "sessions"} {
		text, err := data.ReadFile("data/" + name + ".csv")
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range text {
			if c != '\n' && (c < ' ' || c > '~') || c == '"' {
				t.Fatalf("%s.csv has a %q at byte %d", name, c, i)
			}
		}
		lines := strings.Split(string(text), "\n")
		if lines[len(lines)-1] != "" {
			t.Errorf("%s.csv does not end in a newline", name)
		}
		body := lines[1 : len(lines)-1]
		if len(body) == 0 {
			t.Errorf("%s.csv has no rows", name)
		}
		if name == "hosts" || name == "aliases" || name == "domains" || name == "sessions" {
			if !slices.IsSorted(body) {
				t.Errorf("%s.csv is not sorted", name)
			}
		}
		sorted := slices.Sorted(slices.Values(body))
		if n := len(slices.Compact(slices.Clone(sorted))); n != len(body) {
			t.Errorf("%s.csv has %d rows twice", name, len(body)-n)
		}
	}
}

func TestHostRows(t *testing.T) {
	owners := map[string]string{}
	for _, r := range rows(t, "hosts") {
		id, host, kind, env, sources := r[0], r[1], r[2], r[3], r[4]
		if owner, twice := owners[host]; twice {
			t.Errorf("%s is there twice: %s, %s", host, owner, id)
		}
		owners[host] = id
		if !isID(id) {
			t.Errorf("%s: the id %q is not of lower-case letters, digits and _", host, id)
		}
		name, wild := strings.CutPrefix(host, "*.")
		if h, err := target.ParseHost(name); err != nil || h.Name != name || h.IsIP() || !strings.Contains(name, ".") {
			t.Errorf("%q is not a normalised name: %v, %v", host, h, err)
		}
		if kind != "http" && kind != "websocket" && kind != "both" {
			t.Errorf("%s: kind %q", host, kind)
		}
		if env != "live" && env != "test" {
			t.Errorf("%s: env %q", host, env)
		}
		for _, s := range strings.Split(sources, ";") {
			if s != "ccxt" && s != "cryptofeed" && s != "docs" {
				t.Errorf("%s: source %q", host, s)
			}
		}
		if !wild {
			continue
		}
		for _, o := range rows(t, "hosts") {
			if strings.HasSuffix(o[1], "."+name) && o[0] != id {
				t.Errorf("%s of %s lies under the wildcard of %s", o[1], o[0], id)
			}
		}
	}
}

func isID(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

func TestAliasRows(t *testing.T) {
	ids := Embedded().IDs()
	seen := map[string]string{}
	for _, r := range rows(t, "aliases") {
		alias, id := r[0], r[1]
		if alias != strings.ToLower(alias) || strings.TrimSpace(alias) == "" {
			t.Errorf("alias %q is not in lower case", alias)
		}
		if slices.Contains(ids, alias) {
			t.Errorf("alias %s of %s is an id itself", alias, id)
		}
		if !slices.Contains(ids, id) {
			t.Errorf("alias %s leads to %s, which is no id", alias, id)
		}
		if other, twice := seen[alias]; twice {
			t.Errorf("alias %s leads to %s and to %s", alias, other, id)
		}
		seen[alias] = id
		if s := r[2]; s != "ccxt" && s != "cryptofeed" && s != "common" {
			t.Errorf("alias %s: source %q", alias, s)
		}
	}
}

func TestFamilyRows(t *testing.T) {
	ids := Embedded().IDs()
	for _, r := range rows(t, "families") {
		if !slices.Contains(ids, r[0]) || !slices.Contains(ids, r[1]) || r[0] == r[1] {
			t.Errorf("%s reaches %s: one is no id, or they are the same", r[0], r[1])
		}
	}
}

// A probe's host is a host of its exchange and is used for that kind.
func TestProbeRows(t *testing.T) {
	for _, r := range rows(t, "probes") {
		id, text := r[0], r[2]
		kind, err := ParseKind(r[1])
		if err != nil || kind == KindBoth {
			t.Errorf("%s: kind %q", text, r[1])
		}
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		want := map[Kind]string{KindHTTP: "https", KindWebsocket: "wss"}[kind]
		if u.Scheme != want || u.User != nil || u.Fragment != "" {
			t.Errorf("%s: want a plain %s URL", text, want)
		}
		owner, serves, ok := Embedded().Lookup(u.Hostname())
		if !ok || owner != id || serves != kind && serves != KindBoth {
			t.Errorf("%s: its host is %q's for %s, want %s for %s", text, owner, serves, id, kind)
		}
	}
}

func TestLimitRows(t *testing.T) {
	for _, id := range Embedded().IDs() {
		once := map[string]bool{}
		for _, l := range Embedded().PublishedLimits(id) {
			if key := l.Kind.String() + l.What; once[key] {
				t.Errorf("%s: two limits for %s %s", id, l.Kind, l.What)
			} else {
				once[key] = true
			}
			if !slices.Contains([]string{"connects", "concurrent", "requests", "weight"}, l.What) {
				t.Errorf("%s: what is %q", id, l.What)
			}
			if !slices.Contains([]string{"published", "conflicting", "unverified"}, l.Confidence) {
				t.Errorf("%s: confidence is %q", id, l.Confidence)
			}
			if l.Value < 1 || l.Source == "" || (l.What == "concurrent") != (l.Per == 0) {
				t.Errorf("%s: %+v lacks something", id, l)
			}
		}
	}
}

func TestEveryRowIsFound(t *testing.T) {
	hosts := 0
	for _, x := range Embedded().Exchanges() {
		hosts += len(x.Hosts)
	}
	if list := rows(t, "hosts"); hosts != len(list) {
		t.Errorf("%d hosts in Exchanges, %d rows", hosts, len(list))
	}
	for _, r := range rows(t, "hosts") {
		id, kind, ok := Embedded().Lookup(strings.Replace(r[1], "*", "any", 1))
		if !ok || id != r[0] || kind.String() != r[2] {
			t.Errorf("%s is %s %s, want %s %s", r[1], id, kind, r[0], r[2])
		}
	}
	for _, r := range rows(t, "aliases") {
		if id, ok := Embedded().Resolve(r[0]); !ok || id != r[1] {
			t.Errorf("alias %s leads to %q, want %s", r[0], id, r[1])
		}
	}
	probes, limits := 0, 0
	for _, id := range Embedded().IDs() {
		probes += len(Embedded().ProbeURLs(id, KindHTTP)) + len(Embedded().ProbeURLs(id, KindWebsocket))
		limits += len(Embedded().PublishedLimits(id))
	}
	if probes != len(rows(t, "probes")) || limits != len(rows(t, "limits")) {
		t.Errorf("%d probes and %d limits are found, of %d and %d", probes, limits, len(rows(t, "probes")), len(rows(t, "limits")))
	}
}

func TestPublishedLimits(t *testing.T) {
	want := []Limit{
		{Kind: KindWebsocket, What: "concurrent", Value: 100, Confidence: "published", Source: "bitget api-doc common websocket-intro"},
		{Kind: KindWebsocket, What: "connects", Value: 300, Per: 5 * time.Minute, Confidence: "published", Source: "bitget api-doc common websocket-intro"},
	}
	if d := cmp.Diff(want, Embedded().PublishedLimits("bitget")); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got := Embedded().PublishedLimits("deribit"); len(got) != 1 || got[0].Kind != KindBoth {
		t.Errorf("got %+v, want one that counts both kinds together", got)
	}
	if got := Embedded().PublishedLimits("unknown"); got != nil {
		t.Errorf("got %+v for a name that is not there", got)
	}
}

func TestProbeURLs(t *testing.T) {
	for _, c := range []struct {
		name, id string
		kind     Kind
		want     []string
	}{
		{"http", "bitmex", KindHTTP, []string{"https://www.bitmex.com/api/v1"}},
		{"websocket", "bitmex", KindWebsocket, []string{"wss://ws.bitmex.com/realtime"}},
		{"of no kind", "bitmex", KindUnknown, nil},
		{"of both kinds", "bitmex", KindBoth, nil},
		{"unknown exchange", "unknown", KindHTTP, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, Embedded().ProbeURLs(c.id, c.kind)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestDate(t *testing.T) {
	if _, err := time.Parse(time.DateOnly, Date()); err != nil {
		t.Error(err)
	}
}

func TestExchanges(t *testing.T) {
	if !slices.IsSorted(Embedded().IDs()) || len(Embedded().IDs()) != len(Embedded().Exchanges()) {
		t.Error("the ids are not sorted, or not one for each exchange")
	}
	for i, x := range Embedded().Exchanges() {
		if x.ID != Embedded().IDs()[i] || len(x.Hosts) == 0 || !slices.IsSorted(x.Aliases) ||
			!slices.IsSortedFunc(x.Hosts, func(a, b Host) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("%+v is out of order, or has no hosts", x)
		}
	}
	got, _ := Embedded().Get("Binance_CoinM")
	want := []string{"binance", "binance_futures"}
	if got.ID != "binance_delivery" || !cmp.Equal(slices.Sorted(slices.Values(got.Family)), want) {
		t.Errorf("got %s with family %v, want binance_delivery with %v", got.ID, got.Family, want)
	}
	if x, ok := Embedded().Get("unknown"); ok || x.ID != "" {
		t.Errorf("got %+v for a name that is not there", x)
	}
}

// The old path of Binance's futures streams is open, answers pings and carries
// nothing.
func TestProbeOfBinanceFuturesAsksTheMarketPath(t *testing.T) {
	want := []string{"wss://fstream.binance.com/market/ws/btcusdt@aggTrade"}
	if d := cmp.Diff(want, Embedded().ProbeURLs("binance_futures", KindWebsocket)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
