package health

import (
	"context"
	"errors"
	"net/netip"
	"regexp"

	"proxyd/internal/catalog"
	"proxyd/internal/target"
	"proxyd/internal/upstream"
)

// ExitIP asks a page that says who asks, such as https://api.ipify.org, through
// one upstream: the address is what exchanges see, and what an allow-list of
// theirs must hold. It is invalid where the result is not ok.
func ExitIP(ctx context.Context, dial Dial, a Ask) (netip.Addr, Result) {
	var body []byte
	a.Method, a.Target.Kind, a.keep = Exchange, catalog.KindHTTP, &body
	r := Probe(ctx, dial, a)
	if r.Verdict != OK {
		return netip.Addr{}, r
	}
	for _, word := range addressLike.FindAllString(string(body), -1) {
		if ip, err := netip.ParseAddr(word); err == nil {
			return ip.Unmap(), r
		}
	}
	r.Verdict, r.Text, r.Hint = Unknown, r.Text+", but no address in it", "name a page that answers with the caller's address"
	return netip.Addr{}, r
}

// addressLike finds what may be an address in text, HTML or JSON.
var addressLike = regexp.MustCompile(`[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]+`)

// TargetOf returns where a URL leads.
func TargetOf(address string) (upstream.Target, error) {
	host, port := hostPort(address)
	if port == 0 {
		return upstream.Target{}, errors.New("not a URL: write https://HOST/PATH")
	}
	h, err := target.ParseHost(host)
	if err != nil {
		return upstream.Target{}, err
	}
	return upstream.Target{Host: h.Name, IP: h.IP, Port: port, Kind: catalog.KindHTTP}, nil
}
