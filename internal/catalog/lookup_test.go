package catalog

import (
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name, host, exchange string
		kind                 Kind
	}{
		{"exact, http", "api.binance.com", "binance", KindHTTP},
		{"exact, websocket", "stream.binance.com", "binance", KindWebsocket},
		{"exact, both", "api.gateio.ws", "gateio", KindBoth},
		{"a neighbour of the same domain is another's", "fapi.binance.com", "binance_futures", KindHTTP},
		{"wildcard", "push9.kucoin.com", "kucoin", KindWebsocket},
		{"wildcard, any depth", "a.b.kucoin.com", "kucoin", KindWebsocket},
		{"exact beats wildcard", "api.kucoin.com", "kucoin", KindHTTP},
		{"wildcard, not its own name", "kucoin.com", "", KindUnknown},
		{"wildcard, not a name that only ends so", "notkucoin.com", "", KindUnknown},
		{"wildcard, not a name that goes on", "push9.kucoin.com.example", "", KindUnknown},
		{"no suffix match", "x.api.binance.com", "", KindUnknown},
		{"a domain, which Domains lists", "binance.com", "", KindUnknown},
		{"unknown", "example.org", "", KindUnknown},
		{"one label", "localhost", "", KindUnknown},
		{"nothing", "", "", KindUnknown},
		{"dots alone", "...", "", KindUnknown},
		{"the wildcard as it is written", "*.binance.com", "", KindUnknown},
		{"an address", "192.0.2.1", "", KindUnknown},
		{"normalising is the caller's: case", "API.binance.com", "", KindUnknown},
		{"normalising is the caller's: dot", "api.binance.com.", "", KindUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			exchange, kind, ok := Embedded().Lookup(c.host)
			if exchange != c.exchange || kind != c.kind || ok != (c.exchange != "") {
				t.Errorf("got %q %q %v, want %q %q", exchange, kind, ok, c.exchange, c.kind)
			}
		})
	}
}

// No two wildcards of today's data overlap; the longest must win when they do.
func TestLongestWildcard(t *testing.T) {
	table := Embedded()
	const long = "deep.kucoin.com" // below *.kucoin.com
	if _, there := table.wild[long]; there {
		t.Fatal("the data has that wildcard: choose another")
	}
	table.wild[long] = entry{"venue", KindHTTP}
	defer delete(table.wild, long)
	for host, want := range map[string]string{"a.deep.kucoin.com": "venue", "deep.kucoin.com": "kucoin", "a.kucoin.com": "kucoin"} {
		if exchange, _, _ := Embedded().Lookup(host); exchange != want {
			t.Errorf("%s is %s's, want %s's", host, exchange, want)
		}
	}
}

func TestResolve(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"an id", "binance", "binance"},
		{"an id in capitals", "BINANCE_FUTURES", "binance_futures"},
		{"an alias", "binance_coinm", "binance_delivery"},
		{"an alias in mixed case", "Big_One", "bigone"},
		{"cryptofeed's dotted id", "CRYPTO.COM", "cryptodotcom"},
		{"cryptofeed's other dotted id", "bit.com", "bitdotcom"},
		{"ccxt's id", "binanceusdm", "binance_futures"},
		{"ccxt's name of old", "gate", "gateio"},
		{"unknown", "binanse", ""},
		{"nothing", "", ""},
		{"white space is not cut", " binance", ""},
		{"a host is not a name", "api.binance.com", ""},
		{"the Kelvin sign is not a k", "\u212araken", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if id, ok := Embedded().Resolve(c.in); id != c.want || ok != (c.want != "") {
				t.Errorf("got %q %v, want %q", id, ok, c.want)
			}
		})
	}
	for _, id := range Embedded().IDs() {
		if got, ok := Embedded().Resolve(strings.ToUpper(id)); !ok || got != id {
			t.Errorf("%s in capitals leads to %q", id, got)
		}
	}
}

func TestParseKind(t *testing.T) {
	for in, want := range map[string]Kind{
		"http": KindHTTP, "REST": KindHTTP, "websocket": KindWebsocket, "Ws": KindWebsocket, "both": KindBoth,
		"": KindUnknown, "any": KindUnknown, "https": KindUnknown, "w\u017f": KindUnknown,
	} {
		if got, err := ParseKind(in); got != want || (err == nil) != (want != KindUnknown) {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
	for _, k := range []Kind{KindHTTP, KindWebsocket, KindBoth} {
		if got, err := ParseKind(k.String()); got != k || err != nil {
			t.Errorf("%q, read again, is %q, %v", k, got, err)
		}
	}
	if s := KindUnknown.String() + Kind(9).String(); s != "" {
		t.Errorf("unknown kinds are called %q", s)
	}
}

var hosts = []struct{ name, host string }{
	{"exact", "stream.binance.com"},
	{"wildcard", "ws-api-spot.kucoin.com"},
	{"unknown", "a.long.name.that.nobody.lists.example.org"},
}

func TestLookupAllocatesNothing(t *testing.T) {
	for _, h := range hosts {
		if n := testing.AllocsPerRun(1000, func() { Embedded().Lookup(h.host) }); n != 0 {
			t.Errorf("%s: %v allocations", h.name, n)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, h := range hosts {
		b.Run(h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Embedded().Lookup(h.host)
			}
		})
	}
}
