package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/config"
)

// listed writes a configuration whose pool asia has a list, and the list.
func listed(t *testing.T, yaml, list string) (path string) {
	t.Helper()
	dir := t.TempDir()
	save(t, filepath.Join(dir, "asia.txt"), list)
	path = filepath.Join(dir, "proxyd.yaml")
	save(t, path, yaml)
	return path
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const asiaList = "pools: {asia: {list: asia.txt, scheme: socks5}}\ndefault: asia\n"

func members(t *testing.T, c *config.Config, pool string) (list []string) {
	t.Helper()
	for _, m := range config.PoolsByName(c)[pool].Proxies {
		list = append(list, fmt.Sprintf("%s %s://%s:%s", m.Name, m.URL.Scheme, m.URL.User.Reveal(), m.URL.Password.Reveal()))
	}
	return list
}

func TestPoolListForms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ list, want string }{
		"host:port":               {"\ufeff192.0.2.1:1080\r\n# one\r\n192.0.2.2:1080 # two\r\n", "192.0.2.1:1080 socks5://: 192.0.2.2:1080 socks5://:"},
		"host:port:user:password": {"192.0.2.1:1080:bob:a:b#c\n", "192.0.2.1:1080 socks5://bob:a:b#c"},
		"user:password@host:port": {"bob:p@ss@192.0.2.1:1080\n", "192.0.2.1:1080 socks5://bob:p@ss"},
		"user:password:host:port": {"bob:1:192.0.2.1:1080\neve:${x}:192.0.2.2:1080\n", "192.0.2.1:1080 socks5://bob:1 192.0.2.2:1080 socks5://eve:${x}"},
		"URLs":                    {"http://bob:a%3Ab@192.0.2.1:80\nsocks5h://192.0.2.2:1\n", "192.0.2.1:80 http://bob:a:b 192.0.2.2:1 socks5h://:"},
		"CSV":                     {"ip,port,username,password,country\n192.0.2.1,1080,bob,\"a,b\",JP\n", "192.0.2.1:1080 socks5://bob:a,b"},
		"CSV with a protocol":     {"IP Address;Port;Protocols\n192.0.2.1;80;http\n2001:db8::1;81;\"socks4, socks5\"\n", "192.0.2.1:80 http://: [2001:db8::1]:81 socks5://:"},
		"sessions by user":        {"gate.example:7000:bob-1:x\ngate.example:7000:bob-2:x\n", "gate.example:7000 socks5://bob-1:x gate.example:7000#2 socks5://bob-2:x"},
		"sessions by password":    {"gate.example:7000:bob:x_1\ngate.example:7000:bob:x_2\ngate.example:7000:eve:x_2\n", "gate.example:7000 socks5://bob:x_1 gate.example:7000#2 socks5://bob:x_2 gate.example:7000#3 socks5://eve:x_2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c2, err := config.Load(listed(t, asiaList, c.list), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(members(t, c2, "asia"), " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if len(c2.Warnings) > 0 {
				t.Errorf("warnings: %v", c2.Warnings)
			}
		})
	}
}

// What is written out counts, and stands before the list.
func TestPoolListBesideProxies(t *testing.T) {
	t.Parallel()
	path := listed(t, "pools: {asia: {proxies: [{name: tokyo, url: 'http://192.0.2.2:80', weight: 2}, direct], list: asia.txt}}\ndefault: asia\n",
		"192.0.2.1:80\n192.0.2.2:80\n192.0.2.1:80\n")
	c, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(members(t, c, "asia"), ", "), "tokyo http://:, direct direct://:, 192.0.2.1:80 http://:"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	printed := config.Print(c)
	if want := "list: " + filepath.Join(filepath.Dir(path), "asia.txt") + " # 1 member"; !strings.Contains(printed, want) {
		t.Errorf("want %s in\n%s", want, printed)
	}
	if again := config.Print(load(t, printed)); again != printed {
		t.Errorf("what is printed means something else:\n%s\n%s", printed, again)
	}
	if want := filepath.Join(filepath.Dir(path), "asia.txt"); fmt.Sprint(c.Files()) != "["+want+"]" {
		t.Errorf("files %v", c.Files())
	}
	named := config.NamedFiles(path)
	if fmt.Sprint(named) != fmt.Sprint(c.Files()) {
		t.Errorf("named files %v", named)
	}
}

func TestPoolListFromEnvironment(t *testing.T) {
	t.Parallel()
	path := listed(t, "default: asia\n", "192.0.2.1:1080\n")
	c, err := config.Load(path, []string{"PROXYD_POOLS__ASIA__LIST=asia.txt", "PROXYD_POOLS__ASIA__SCHEME=socks5"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(members(t, c, "asia"), " "); got != "192.0.2.1:1080 socks5://:" {
		t.Error(got)
	}
}

func TestPoolListErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ yaml, list, want string }{
		"missing":               {"pools: {asia: {list: other.txt}}\n", "", "pools.asia.list: the file cannot be read: no such file or directory"},
		"empty":                 {asiaList, "\n# geheim\n", "pools.asia.list: the file has no proxy"},
		"more wrong than right": {asiaList, "geheim\ngeheim\n192.0.2.1:80\n", "pools.asia.list: more lines of the list are wrong than right (2 to 1)"},
		"a URL":                 {"pools: {asia: {list: 'https://geheim@a.example/'}}\n", "", "pools.asia.list: is a URL, not a file"},
		"scheme alone":          {"pools: {asia: {scheme: http, proxies: [direct]}}\n", "", "pools.asia.scheme: has no effect without a list"},
		"a wrong scheme":        {"pools: {asia: {list: asia.txt, scheme: ftp}}\n", "192.0.2.1:80\n", "pools.asia.scheme: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(listed(t, c.yaml, c.list), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// A line that is none is skipped, with a warning that names it and not its text.
func TestPoolListWarnings(t *testing.T) {
	t.Parallel()
	path := listed(t, asiaList, "192.0.2.1:80:u:p\n192.0.2.2:80:u:p\nu:geheim@192.0.2.3:80\n")
	if err := os.Chmod(filepath.Join(filepath.Dir(path), "asia.txt"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	said := c.Warnings.Error()
	for _, want := range []string{"asia.txt:3:1: is not of the form HOST:PORT:USER:PASSWORD, which the list has: it is skipped", "the list holds passwords, and others may read it (mode 0644)"} {
		if !strings.Contains(said, want) {
			t.Errorf("want %q in\n%s", want, said)
		}
	}
	if len(c.Warnings) != 2 || strings.Contains(said, "geheim") {
		t.Errorf("got\n%s", said)
	}
}

// The difference counts the members of a list; identity decides which are new.
func TestPoolListDifference(t *testing.T) {
	t.Parallel()
	text := func(from, to int, password string) string {
		var out strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&out, "192.0.2.%d:1080:bob:%s\n", i, password)
		}
		return out.String()
	}
	path := listed(t, asiaList, text(1, 11, "x"))
	prev, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ list, want, shrunk string }{
		"the same":       {text(1, 11, "x"), "[]", "[]"},
		"added and gone": {text(4, 23, "x"), "[~ pool asia: 12 members added, 3 gone]", "[]"},
		"added":          {text(1, 12, "x"), "[~ pool asia: 1 member added]", "[]"},
		"gone":           {text(1, 6, "x"), "[~ pool asia: 5 members gone]", "[]"},
		"shrunk":         {text(1, 5, "x"), "[~ pool asia: 6 members gone]", "[pools.asia.list: asia.txt has shrunk from 10 members to 4: correct it]"},
		"passwords":      {text(1, 11, "geheim"), "[~ pool asia: 10 passwords changed]", "[]"},
		"another order":  {text(6, 11, "x") + text(1, 6, "x"), "[~ pool asia: order changed]", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next, err := config.Load(listed(t, asiaList, c.list), nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range next.Pools { // the two lie in folders of their own
				next.Pools[i].List = prev.Pools[0].List
			}
			if got := fmt.Sprint(config.Diff(prev, next)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got := fmt.Sprint(config.ShrunkLists(prev, next)); got != c.shrunk {
				t.Errorf("got %s, want %s", got, c.shrunk)
			}
		})
	}
}

// Sessions that differ in the password alone keep their identity when lines before
// them go.
func TestPoolListIdentityOfSessions(t *testing.T) {
	t.Parallel()
	ids := func(list string) (all []config.Identity) {
		c, err := config.Load(listed(t, asiaList, list), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range c.Pools[0].Proxies {
			all = append(all, config.IdentityOf(m))
		}
		return all
	}
	before, after := ids("g.example:1:bob:x_1\ng.example:1:bob:x_2\ng.example:1:bob:x_3\n"), ids("g.example:1:bob:x_2\ng.example:1:bob:x_3\n")
	if len(before) != 3 || len(after) != 2 || before[1] != after[0] || before[2] != after[1] || before[0] == before[1] {
		t.Errorf("%v, %v", before, after)
	}
}

// The exit of a proxy that stands alone at its address is the same on each host that
// reads the list. Sessions are numbered by its order, which may differ.
func TestSharedBudgetsOfAPoolList(t *testing.T) {
	t.Parallel()
	const file = `
fleet: {redis: "redis://redis.example:6379"}
pools: {asia: {list: asia.txt}}
exchanges: {binance: {pool: asia, limits: {connects: 300/5m, shared: true}}}
default: reject
`
	for name, c := range map[string]struct{ list, want string }{
		"one session at each address":     {"192.0.2.1:1080\n192.0.2.2:1080\n192.0.2.2:1081\n", ""},
		"sessions by user":                {"192.0.2.1:1080\ngate.example:7000:bob-1:x\ngate.example:7000:bob-2:x\n", "gate.example:7000 is one of several sessions at one address; write these proxies below proxies"},
		"sessions by password":            {"gate.example:7000:bob:x_1\ngate.example:7000:bob:x_2\n", "gate.example:7000 is one of several sessions"},
		"the same session more than once": {"192.0.2.1:1080\n192.0.2.1:1080\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(listed(t, file, c.list), nil)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
