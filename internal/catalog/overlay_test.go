package catalog

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestOverlay(t *testing.T) {
	c, err := Overlay([]byte("\ufeffexchange,host,kind,env,sources\n# our own\nBinance,new.binance.example,websocket,live,\n" +
		"my_venue,api.venue.example,http,live,mine\nmy_venue,*.stream.venue.example,ws,live,mine\n" +
		"my_venue,API.bequant.io,both,live,\n"))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]entry{
		"new.binance.example": {"binance", KindWebsocket}, "api.venue.example": {"my_venue", KindHTTP},
		"a.stream.venue.example": {"my_venue", KindWebsocket}, "api.bequant.io": {"my_venue", KindBoth},
		"api.binance.com": {"binance", KindHTTP},
	} {
		if id, kind, _ := c.Lookup(host); id != want.exchange || kind != want.kind {
			t.Errorf("%s is %s's for %s, want %v", host, id, kind, want)
		}
	}
	if _, ok := c.Resolve("bequant"); !ok || !slices.IsSorted(c.IDs()) {
		t.Error("an exchange without hosts is gone, or the ids are out of order")
	}
	if c.Equal(Embedded()) || c.Equal(nil) {
		t.Error("an overlay equals what it lies over, or nothing")
	}
	if _, ok := Embedded().Resolve("my_venue"); ok {
		t.Error("the embedded catalogue has changed")
	}
	if n := len(slices.Collect(maps.Keys(c.exact))); n != len(Embedded().exact)+2 {
		t.Errorf("%d exact hosts, want 2 more than %d", n, len(Embedded().exact))
	}
}

func TestOverlayErrors(t *testing.T) {
	const head = "exchange,host,kind,env,sources\n"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "the first line must be exchange,host,kind,env,sources"},
		{"another header", "host,exchange\n", "the first line must be"},
		{"columns", head + "binance,x.example\n", "row 1: has 2 columns, want 5"},
		{"id", head + "my venue!,x.example,http,live,\n", "row 1: the exchange must be of letters"},
		{"host", head + "binance,https://x.example/,http,live,\n", "row 1: the host must be a name"},
		{"address", head + "binance,10.0.0.0/8,http,live,\n", "row 1: the host must be a name"},
		{"kind", head + "binance,x.example,grpc,live,\n", "row 1: not a kind"},
		{"env", head + "binance,x.example,http,prod,\n", "row 1: env must be live or test"},
		{"twice", head + "binance,x.example,http,live,\nokx,X.example.,http,live,\n", "row 2: x.example is listed by row 1 too"},
		{"all at once", head + "a b,x,http,live,\nbinance,y.example,http,prod,\n", "row 2: env must be live or test"},
		{"sessions", "exchange,host,kind,env,sources,sessions\nbinance,x.example,http,live,,nights\n", "row 1: sessions must be closes, always or nothing"},
		{"sessions missing", "exchange,host,kind,env,sources,sessions\nbinance,x.example,http,live,\n", "row 1: has 5 columns, want 6"},
		{"sessions that differ", "exchange,host,kind,env,sources,sessions\na,x.example,http,live,,closes\na,y.example,http,live,,always\n", "row 2: a has the sessions closes in another row"},
		{"quotes", head + "\"binance,x.example\n", "parse error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Overlay([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

// The sixth column of an overlay says which exchanges close; without it, what the
// embedded rows say holds.
func TestSessionsColumnSaysWhichExchangesClose(t *testing.T) {
	if !Embedded().Closes("alpaca") || Embedded().Closes("okx") || Embedded().Closes("no_such") {
		t.Error("the embedded rows: alpaca closes, okx does not")
	}
	c, err := Overlay([]byte("exchange,host,kind,env,sources,sessions\nmy_broker,api.broker.example,ws,live,,closes\n" +
		"my_broker,b.broker.example,ws,live,,\nalpaca,x.alpaca.markets,ws,live,,always\n"))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"my_broker": true, "alpaca": false, "kalshi": true, "okx": false} {
		if c.Closes(id) != want {
			t.Errorf("%s closes: %v", id, !want)
		}
	}
}
