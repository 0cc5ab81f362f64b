package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/daemon"
)

const (
	listLimit   = 4 << 20
	listPool    = "list" // the name of the pool that a list makes
	listTimeout = 30 * time.Second
)

// readList makes the proxies of --list the only pool of the snapshot.
func (o *probeOptions) readList(ctx context.Context, stdin io.Reader) error {
	text, err := fetchList(ctx, o.list, stdin)
	if err != nil {
		return err
	}
	if o.hashSet {
		if sum := sha256.Sum256(text); !strings.EqualFold(hex.EncodeToString(sum[:]), o.sha256) {
			return fmt.Errorf("the list hashes to %x, not to --sha256; it was changed, or the hash is another list's", sum)
		}
	}
	name := o.list
	if isWebAddress(name) {
		name = "the list"
	}
	proxies, lines, errs := config.ParseList(name, text, config.Scheme(o.scheme))
	for _, e := range errs {
		o.announce("%s", e)
	}
	if len(proxies) == 0 {
		return errors.New("there is no proxy in the list")
	}
	snap, err := daemon.Snapshot(onlyProxies(o.config, proxies), nil, func(netip.AddrPort) bool { return false })
	if err != nil {
		return err
	}
	o.listed, o.snapshot = lines, snap
	return nil
}

// onlyProxies returns c with these proxies as its only upstreams: an upstream of the
// same identity would lend them its name and password. The hosts of exchanges and
// the addresses to probe stay.
func onlyProxies(c *config.Config, proxies []config.Proxy) *config.Config {
	only := *c
	only.Pools = []config.Pool{{Name: listPool, Strategy: config.RoundRobin, Proxies: proxies}}
	only.Default, only.Routes, only.Listen = config.Outbounds{}, nil, nil
	only.Exchanges = slices.Clone(c.Exchanges)
	for i := range only.Exchanges {
		only.Exchanges[i].Outbounds = config.Outbounds{}
	}
	return &only
}

func isWebAddress(s string) bool {
	s = strings.ToLower(s)
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

// fetchList returns the text of a list. An address is fetched by HTTPS and without
// a proxy, whatever the environment says.
func fetchList(ctx context.Context, where string, stdin io.Reader) ([]byte, error) {
	var from io.Reader
	switch {
	case where == "-":
		from = stdin
	case isWebAddress(where):
		ctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		body, err := download(ctx, where)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		from = body
	default:
		f, err := os.Open(where)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, listLimit+1))
	if err == nil && len(text) > listLimit {
		err = fmt.Errorf("the list is larger than %d MiB", listLimit>>20)
	}
	return text, err
}

var errNotHTTPS = usageError{errors.New("--list takes a file or an https:// address: what comes by http:// could be changed in transit")}

// download opens the address of a list; the caller closes it. The text of an error
// does not repeat the address, which may contain a key.
func download(ctx context.Context, where string) (io.ReadCloser, error) {
	u, err := url.Parse(where)
	if err != nil || u.Host == "" {
		return nil, usageError{errors.New("--list: not a URL")}
	}
	if u.Scheme != "https" {
		return nil, errNotHTTPS
	}
	client := &http.Client{
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "https" || len(via) > 5 {
				return errors.New("it redirects to an address without https, or too often")
			}
			return nil
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, usageError{errors.New("--list: not a URL")}
	}
	resp, err := client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("the list at %s: %w", u.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("the list at %s: HTTP %d", u.Host, resp.StatusCode)
	}
	return resp.Body, nil
}
