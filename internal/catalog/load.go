package catalog

import (
	"bytes"
	"embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"time"
)

//go:embed data/*.csv
var data embed.FS

// load reads the five files. What their rules are is data/README.md's to say
// and the tests' to hold; here is only what the look-ups rely on.
func load() (*table, error) {
	t := &table{
		exact:  map[string]entry{},
		wild:   map[string]entry{},
		names:  map[string]string{},
		byID:   map[string]int{},
		probes: map[probeKey][]string{},
		limits: map[string][]Limit{},
	}
	for _, file := range []struct {
		name, header string
		row          func([]string) error
	}{
		{"hosts", "exchange,host,kind,env,sources", t.addHost},
		{"aliases", "alias,exchange,source", t.addAlias},
		{"families", "family,exchange", t.addFamily()},
		{"probes", "exchange,kind,url", t.addProbe},
		{"limits", "exchange,kind,what,value,per_seconds,confidence,source", t.addLimit},
	} {
		if err := readRows(file.name, file.header, file.row); err != nil {
			return nil, err
		}
	}
	for _, family := range t.families {
		for _, id := range family {
			e := &t.exchanges[t.byID[id]]
			for _, peer := range family {
				if peer != id && !slices.Contains(e.Family, peer) {
					e.Family = append(e.Family, peer)
				}
			}
		}
	}
	return t, nil
}

// readRows gives each row of a file to row, without the header.
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

func (t *table) addHost(r []string) error {
	id, name := r[0], r[1]
	kind, err := ParseKind(r[2])
	if err != nil {
		return err
	}
	i, known := t.byID[id]
	if !known {
		i = len(t.exchanges)
		t.byID[id], t.names[id] = i, id
		t.ids = append(t.ids, id)
		t.exchanges = append(t.exchanges, Exchange{ID: id})
	}
	e := &t.exchanges[i]
	e.Hosts = append(e.Hosts, Host{Name: name, Kind: kind, Env: r[3]})
	where, key := t.exact, name
	if len(name) > 2 && name[:2] == "*." {
		where, key = t.wild, name[2:]
	}
	if _, twice := where[key]; twice {
		return fmt.Errorf("%s is there twice", name)
	}
	where[key] = entry{id, kind}
	return nil
}

func (t *table) addAlias(r []string) error {
	alias, id := r[0], r[1]
	i, known := t.byID[id]
	if !known {
		return fmt.Errorf("no exchange %s", id)
	}
	if _, twice := t.names[alias]; twice {
		return fmt.Errorf("%s is an id, or there twice", alias)
	}
	t.names[alias] = id
	t.exchanges[i].Aliases = append(t.exchanges[i].Aliases, alias)
	return nil
}

func (t *table) addFamily() func([]string) error {
	last := ""
	return func(r []string) error {
		if _, known := t.byID[r[1]]; !known {
			return fmt.Errorf("no exchange %s", r[1])
		}
		if r[0] != last {
			last = r[0]
			t.families = append(t.families, nil)
		}
		n := len(t.families) - 1
		t.families[n] = append(t.families[n], r[1])
		return nil
	}
}

func (t *table) addProbe(r []string) error {
	kind, err := ParseKind(r[1])
	if err != nil {
		return err
	}
	if _, known := t.byID[r[0]]; !known {
		return fmt.Errorf("no exchange %s", r[0])
	}
	key := probeKey{r[0], kind}
	t.probes[key] = append(t.probes[key], r[2])
	return nil
}

func (t *table) addLimit(r []string) error {
	kind, err := ParseKind(r[1])
	if r[1] == "any" {
		kind, err = KindBoth, nil
	}
	if err != nil {
		return err
	}
	if _, known := t.byID[r[0]]; !known {
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
	t.limits[r[0]] = append(t.limits[r[0]], l)
	return nil
}
