package catalog

import (
	"encoding/csv"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/publicsuffix"
)

// Each host of an exchange lies below a domain of the table, so that the next
// host there is not forgotten; a domain without an exchange was looked at and
// is shared with others.
func TestEveryHostHasADomainRow(t *testing.T) {
	owner := map[string]string{}
	for _, r := range rows(t, "domains") {
		if _, twice := owner[r[0]]; twice {
			t.Errorf("%s is there twice", r[0])
		}
		owner[r[0]] = r[1]
		if registrable, err := publicsuffix.EffectiveTLDPlusOne(r[0]); err != nil || registrable != r[0] {
			t.Errorf("%s is not registrable by itself: %q, %v", r[0], registrable, err)
		}
	}
	used := map[string]map[string]bool{}
	for _, r := range rows(t, "hosts") {
		domain, err := publicsuffix.EffectiveTLDPlusOne(strings.TrimPrefix(r[1], "*."))
		if err != nil {
			t.Fatal(err)
		}
		if _, known := owner[domain]; !known {
			t.Errorf("%s of %s: domains.csv has no row for %s", r[1], r[0], domain)
		}
		if used[domain] == nil {
			used[domain] = map[string]bool{}
		}
		used[domain][r[0]] = true
	}
	for domain, id := range owner {
		if used[domain] == nil {
			t.Errorf("%s: no exchange has a host there", domain)
		} else if id != "" && !used[domain][id] && !slices.Contains(Embedded().IDs(), id) {
			t.Errorf("%s is given to %s, which is no id", domain, id)
		}
	}
}

func TestDomainsNameOwnerAndOthers(t *testing.T) {
	all := map[string]Domain{}
	for d := range Embedded().Domains() {
		all[d.Name] = d
	}
	got := all["binance.com"]
	if got.Owner != "binance" || !slices.Equal(got.Others, []string{"binance_delivery", "binance_futures"}) {
		t.Errorf("got %+v", got)
	}
	if got := all["kucoin.eu"]; got.Owner != "kucoin" || got.Others != nil {
		t.Errorf("got %+v", got)
	}
	if got := all["gate.com"]; got.Owner != "gateio" || !slices.Equal(got.Others, []string{"gateio_futures"}) {
		t.Errorf("got %+v", got)
	}
	if x, _ := Embedded().Get("binance"); !slices.Equal(x.Domains, []string{"binance.com", "binance.vision"}) {
		t.Errorf("binance has the domains %v", x.Domains)
	}
	if _, found := all["kingnodes.com"]; found {
		t.Error("a domain that others share is given to an exchange")
	}
}

// snapshot reads a file of testdata, without its header.
func snapshot(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return list[1:]
}

// Whatever ccxt names, as make catalog SNAPSHOT=1 wrote it down, the catalogue
// has: the class, the host with its kind, and who else a class reaches.
func TestCatalogueKnowsWhatCCXTNames(t *testing.T) {
	reviewed := map[[2]string]bool{}
	for _, r := range snapshot(t, "reviewed.csv") {
		reviewed[[2]string{r[0], r[1]}] = true
	}
	c := Embedded()
	for _, r := range snapshot(t, "ccxt.csv") {
		class, host, kind, env := r[0], r[1], r[2], r[3]
		if reviewed[[2]string{class, host}] {
			continue
		}
		client, known := c.Get(class)
		owner, serves, found := c.Lookup(host)
		switch {
		case !known:
			t.Errorf("ccxt has %s, the catalogue has no such id or alias", class)
		case !found:
			t.Errorf("ccxt's %s names %s, which no row lists", class, host)
		case serves != KindBoth && serves.String() != kind:
			t.Errorf("ccxt's %s uses %s for %s, the row says %s", class, host, kind, serves)
		case env == "live" && owner != client.ID && !slices.Contains(client.Family, owner) && !reviewed[[2]string{class, "*"}]:
			t.Errorf("ccxt's %s reaches %s of %s: families.csv lacks %s,%s", class, host, owner, client.ID, owner)
		}
	}
}

// Ids as public frameworks write them.
func TestResolveTakesOtherFrameworksIDs(t *testing.T) {
	for name, want := range map[string]string{
		"binance-futures": "binance_futures", "binanceth": "binance_th", "aevo": "aevo", "huobi-dm-swap": "huobi_swap",
		"gate-io-futures": "gateio_futures", "okex-swap": "okx", "ascend_ex": "ascendex", "dydx_v4_perpetual": "dydx",
		"crypto-com": "cryptodotcom", "KORBIT": "korbit", "gopax": "gopax", "coinbase-international": "coinbase_international",
	} {
		if id, ok := Embedded().Resolve(name); !ok || id != want {
			t.Errorf("%s is %q, want %s", name, id, want)
		}
	}
	if id, ok := Embedded().Resolve("binance--futures"); ok {
		t.Errorf("binance--futures is %s", id)
	}
}

// Hosts that had moved, or were missing, when the catalogue was last compared.
func TestLookupOfHostsThatMoved(t *testing.T) {
	for host, want := range map[string]entry{
		"api.derive.xyz": {"derive", KindBoth}, "testnet.api.derive.xyz": {"derive", KindBoth},
		"drb.coinbase.com": {"coinbase_international", KindBoth}, "streams.drb.coinbase.com": {"coinbase_international", KindWebsocket},
		"api.perpetuals.polymarket.com": {"polymarket", KindHTTP}, "ws.perpetuals.polymarket.com": {"polymarket", KindWebsocket},
		"x-push-spot.kucoin.eu": {"kucoin", KindWebsocket}, "wsapi-push.kucoin.eu": {"kucoin", KindWebsocket}, "api-futures.kucoin.eu": {"kucoin", KindHTTP},
		"my.okx.com": {"okx_eea", KindHTTP}, "api.binance.th": {"binance_th", KindHTTP},
		"nbstream.binance.th": {"binance_th", KindWebsocket}, "stream.binance.th": {"binance_th", KindWebsocket},
		"api.aevo.xyz": {"aevo", KindHTTP}, "ws.aevo.xyz": {"aevo", KindWebsocket},
	} {
		if id, kind, _ := Embedded().Lookup(host); id != want.exchange || kind != want.kind {
			t.Errorf("%s is %s's for %s, want %s's for %s", host, id, kind, want.exchange, want.kind)
		}
	}
}
