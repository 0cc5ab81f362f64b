package catalog

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed data/*.csv
var data embed.FS

// hostsHeader is the first line of hosts.csv, and of an overlay.
const hostsHeader = "exchange,host,kind,env,sources"

// overlayHeader is the first line of an overlay that says which exchanges close.
const overlayHeader = hostsHeader + ",sessions"

// load reads the embedded files and replaces rows of hosts.csv by those of
// over. It checks only what look-ups rely on; data/README.md has the other
// rules, which the tests check.
func load(over []hostRow) (*Catalog, error) {
	c := &Catalog{
		exact:   map[string]entry{},
		wild:    map[string]entry{},
		domains: map[string]Domain{},
		names:   map[string]string{},
		byID:    map[string]int{},
		probes:  map[probeKey][]string{},
		limits:  map[string][]Limit{},
	}
	if err := c.loadHosts(over); err != nil {
		return nil, err
	}
	for _, file := range []struct {
		name, header string
		row          func([]string) error
	}{
		{"aliases", "alias,exchange,source", c.addAlias},
		{"domains", "domain,exchange", c.addDomain},
		{"families", "client,exchange", c.addFamily},
		{"probes", "exchange,kind,url", c.addProbe},
		{"limits", "exchange,kind,what,value,per_seconds,confidence,source", c.addLimit},
		{"sessions", "exchange,sessions,source", c.addSessions},
	} {
		if err := readRows(file.name, file.header, file.row); err != nil {
			return nil, err
		}
	}
	c.findOthers()
	for _, r := range over {
		if r.sessions != "" {
			c.exchanges[c.byID[r.exchange]].Sessions = r.sessions
		}
	}
	return c, nil
}

// loadHosts reads the hosts; those in over replace those of the same name.
func (c *Catalog) loadHosts(over []hostRow) error {
	replaced := map[string]bool{}
	var ids []string
	for _, r := range over {
		replaced[r.host.Name] = true
		ids = append(ids, r.exchange)
	}
	list := slices.Clone(over)
	err := readRows("hosts", hostsHeader, func(r []string) error {
		row, err := parseHost(r)
		ids = append(ids, row.exchange)
		if err == nil && !replaced[row.host.Name] {
			list = append(list, row)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b hostRow) int {
		return cmp.Or(cmp.Compare(a.exchange, b.exchange), cmp.Compare(a.host.Name, b.host.Name))
	})
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) { // even those that have lost all hosts
		c.byID[id], c.names[id] = len(c.ids), id
		c.ids = append(c.ids, id)
		c.exchanges = append(c.exchanges, Exchange{ID: id})
	}
	for _, row := range list {
		if err := c.addHost(row); err != nil {
			return err
		}
	}
	return nil
}

// readRows calls row for each row of a file, without the header.
func readRows(name, header string, row func([]string) error) error {
	b, err := data.ReadFile("data/" + name + ".csv")
	if err != nil {
		return err
	}
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	if string(first) != header {
		return fmt.Errorf("%s.csv: header %q, want %q", name, first, header)
	}
	rows, err := csv.NewReader(bytes.NewReader(rest)).ReadAll()
	if err != nil {
		return fmt.Errorf("%s.csv: %w", name, err)
	}
	for i, r := range rows {
		if err := row(r); err != nil {
			return fmt.Errorf("%s.csv:%d: %w", name, i+2, err)
		}
	}
	return nil
}

// hostRow is a row of hosts.csv.
type hostRow struct {
	exchange string
	host     Host
	sessions string // of the exchange; "" in the embedded rows, which have them in a file of their own
}

func parseHost(r []string) (hostRow, error) {
	kind, err := ParseKind(r[2])
	return hostRow{exchange: r[0], host: Host{Name: r[1], Kind: kind, Env: r[3]}}, err
}

// addHost adds a row of a known exchange.
func (c *Catalog) addHost(r hostRow) error {
	e := &c.exchanges[c.byID[r.exchange]]
	e.Hosts = append(e.Hosts, r.host)
	where, key := c.exact, r.host.Name
	if below, wild := strings.CutPrefix(key, "*."); wild {
		where, key = c.wild, below
	}
	if _, twice := where[key]; twice {
		return fmt.Errorf("%s is there twice", r.host.Name)
	}
	where[key] = entry{r.exchange, r.host.Kind}
	return nil
}

func (c *Catalog) addAlias(r []string) error {
	alias, id := r[0], r[1]
	i, known := c.byID[id]
	if !known {
		return fmt.Errorf("no exchange %s", id)
	}
	if _, twice := c.names[alias]; twice {
		return fmt.Errorf("%s is an id, or there twice", alias)
	}
	c.names[alias] = id
	c.exchanges[i].Aliases = append(c.exchanges[i].Aliases, alias)
	return nil
}

// addDomain adds a domain. One without an exchange is shared with others, so
// that its unlisted hosts are unknown.
func (c *Catalog) addDomain(r []string) error {
	if r[1] == "" {
		return nil
	}
	i, known := c.byID[r[1]]
	if !known {
		return fmt.Errorf("no exchange %s", r[1])
	}
	c.domains[r[0]] = Domain{Name: r[0], Owner: r[1]}
	c.exchanges[i].Domains = append(c.exchanges[i].Domains, r[0])
	return nil
}

// findOthers sets which exchanges have hosts below each domain.
func (c *Catalog) findOthers() {
	for _, x := range c.exchanges { // sorted
		for _, h := range x.Hosts {
			for rest, ok := strings.TrimPrefix(h.Name, "*."), true; ok; _, rest, ok = strings.Cut(rest, ".") {
				d, found := c.domains[rest]
				if found && d.Owner != x.ID && !slices.Contains(d.Others, x.ID) {
					d.Others = append(d.Others, x.ID)
					c.domains[rest] = d
				}
			}
		}
	}
}

func (c *Catalog) addFamily(r []string) error {
	i, known := c.byID[r[0]]
	_, reached := c.byID[r[1]]
	if !known || !reached {
		return fmt.Errorf("no exchange %s, or no %s", r[0], r[1])
	}
	c.exchanges[i].Family = append(c.exchanges[i].Family, r[1])
	return nil
}

func (c *Catalog) addProbe(r []string) error {
	kind, err := ParseKind(r[1])
	if err != nil {
		return err
	}
	if _, known := c.byID[r[0]]; !known {
		return fmt.Errorf("no exchange %s", r[0])
	}
	key := probeKey{r[0], kind}
	c.probes[key] = append(c.probes[key], r[2])
	return nil
}

func (c *Catalog) addLimit(r []string) error {
	kind, err := ParseKind(r[1])
	if r[1] == "any" {
		kind, err = KindBoth, nil
	}
	if err != nil {
		return err
	}
	if _, known := c.byID[r[0]]; !known {
		return fmt.Errorf("no exchange %s", r[0])
	}
	value, err := strconv.Atoi(r[3])
	if err != nil {
		return err
	}
	l := Limit{Kind: kind, What: r[2], Value: value, Confidence: r[5], Source: r[6]}
	if r[4] != "" {
		seconds, err := strconv.Atoi(r[4])
		if err != nil {
			return err
		}
		l.Per = time.Duration(seconds) * time.Second
	}
	c.limits[r[0]] = append(c.limits[r[0]], l)
	return nil
}

func (c *Catalog) addSessions(r []string) error {
	i, known := c.byID[r[0]]
	if !known {
		return fmt.Errorf("no exchange %s", r[0])
	}
	if r[1] != SessionsClose {
		return fmt.Errorf("sessions %q, want %s", r[1], SessionsClose)
	}
	c.exchanges[i].Sessions = r[1]
	return nil
}
