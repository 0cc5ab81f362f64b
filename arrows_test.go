// Package proxyd_test holds the architecture: which package may import which.
package proxyd_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// The line of packages. Each may import those that stand to its right, and
// nothing else of the project:
//
//	cmd/proxyd → demo → daemon → everything
//	inbound → tunnel → router → upstream → config → catalog → target
//	             └→ relay          ├→ limit
//	                               └→ proxyclient → dialer → failure
//
// admin, metrics, feed, health, source, watch and handover hang off daemon. feed watches what
// tunnel records and emits events; admin and metrics show its rows and the journal of
// event. fleet is what limit asks on shared budgets, and hangs off daemon, too. Otherwise those below daemon do not know each other. proxylist, limit, relay,
// failure and printable are leaves for whoever needs them.
//
// A new arrow is a change to this table, reviewed as one.
var arrows = map[string]struct {
	may   string // packages of the project, without internal/
	tests string // what only tests may import beside those; all tests may import testkit
}{
	"cmd/proxyd":           {may: "printable child isolate daemon source demo admin event feed health convert router config catalog proxylist"}, // beside daemon for check, route, exchanges, status, probe, import
	"internal/demo":        {may: "daemon admin config"},                                                                                        // fakes of its own: testkit is for tests
	"internal/convert":     {may: "config proxylist target", tests: "testkit/routertest router catalog"},
	"internal/daemon":      {may: "failure printable admin metrics health event feed fleet watch handover inbound tunnel relay router upstream limit source config catalog"},
	"internal/child":       {},
	"internal/isolate":     {may: "target"},                                                                                  // for what a name is
	"internal/admin":       {may: "printable event feed router upstream config catalog target", tests: "testkit/routertest"}, // it writes the rows of event and feed as they are
	"internal/metrics":     {may: "event failure feed tunnel catalog"},
	"internal/feed":        {may: "event failure printable tunnel router upstream config catalog", tests: "testkit/routertest relay"},
	"internal/event":       {may: "printable"},
	"internal/health":      {may: "failure printable router upstream config catalog target", tests: "testkit/routertest"},
	"internal/watch":       {},
	"internal/handover":    {tests: "tunnel relay router upstream config"},                                                                         // tunnels that really move
	"internal/inbound":     {may: "failure printable transparent tunnel router upstream config catalog target", tests: "testkit/routertest relay"}, // a tunnel.Handler needs one
	"internal/tunnel":      {may: "failure printable dialer relay router upstream config catalog", tests: "testkit/routertest"},
	"internal/relay":       {},
	"internal/router":      {may: "upstream config catalog target", tests: "testkit/routertest"},
	"internal/source":      {may: "failure upstream config target", tests: "testkit/routertest"},
	"internal/upstream":    {may: "proxyclient dialer failure printable limit config catalog target"},
	"internal/proxyclient": {may: "dialer failure printable config target"},
	"internal/dialer":      {may: "failure printable target"},
	"internal/fleet":       {may: "limit printable"},
	"internal/limit":       {},
	"internal/transparent": {},
	"internal/config":      {may: "catalog proxylist target config/internal/raw", tests: "config/internal/schema"},
	"internal/failure":     {},
	"internal/printable":   {},
	"internal/catalog":     {may: "target"},
	"internal/proxylist":   {},
	"internal/target":      {},

	"internal/config/internal/raw":    {},
	"internal/config/internal/schema": {may: "config/internal/raw"},
	"internal/config/gen":             {may: "config/internal/schema"}, // run by go generate

	"internal/testkit":            {may: "config"}, // Config, for the tests of all that a configuration makes; it knows nothing else of what it tests
	"internal/testkit/routertest": {may: "testkit router upstream config"},
	"e2e":                         {tests: "admin event feed handover daemon"},
	"interop":                     {}, // programs from outside, behind a build tag
	"configs":                     {tests: "config"},
	"deploy":                      {tests: "config"},
	"deploy/packages":             {}, // packages on machines of their own, behind a build tag
	"bench":                       {}, // measures programs from outside
	".":                           {},
}

// Who may import which module of others.
var modules = map[string]struct {
	by    string // packages without internal/, tests included
	tests bool   // all tests may
}{
	"github.com/spf13/cobra":              {by: "cmd/proxyd"},
	"go.uber.org/zap":                     {by: "daemon cmd/proxyd"}, // others hand over records
	"github.com/elazarl/goproxy":          {by: "inbound"},
	"github.com/prometheus/client_golang": {by: "metrics"},
	"github.com/coreos/go-systemd/v22":    {by: "daemon handover"},
	"github.com/things-go/go-socks5":      {by: "inbound"},
	"github.com/spf13/viper":              {by: "config"},
	"github.com/go-viper/mapstructure/v2": {by: "config"},                                                               // viper's decoder, made strict
	"go.yaml.in/yaml/v3":                  {by: "config convert", tests: true},                                          // viper drops the positions of keys
	"github.com/invopop/jsonschema":       {by: "config/internal/schema"},                                               // not linked into the binary
	"golang.org/x/sys":                    {by: "relay inbound daemon admin handover child isolate cmd/proxyd testkit"}, // admin: TCP_USER_TIMEOUT; cmd/proxyd: the size of a terminal; child: its foreground group; relay: splice, TCP_INFO; inbound: one look at whether a client is still there; daemon: the clock that systemd wants; handover: descriptors; isolate: namespaces, capabilities; testkit: a terminal
	"github.com/vishvananda/netlink":      {by: "isolate"},
	"github.com/google/nftables":          {by: "isolate"},
	"github.com/miekg/dns":                {by: "isolate"},
	"github.com/redis/go-redis/v9":        {by: "fleet"},
	"golang.org/x/net/idna":               {by: "target"},
	"golang.org/x/net/publicsuffix":       {tests: true},      // catalog: what a registrable domain is; 300 KB that the binary need not have
	"golang.org/x/net/dns/dnsmessage":     {by: "dialer e2e"}, // the name servers of its tests
	"github.com/coder/websocket":          {by: "testkit e2e interop deploy/packages"},
	"github.com/google/go-cmp":            {tests: true},
	"go.uber.org/goleak":                  {tests: true},
}

// TestArrows reads the imports of every file, whatever system it is for.
func TestArrows(t *testing.T) {
	for _, wrong := range wrongArrows(t, os.DirFS(".")) {
		t.Error(wrong)
	}
}

// wrongArrows lists the imports that the tables do not allow, and what the
// tables say of packages that are not there.
func wrongArrows(t *testing.T, tree fs.FS) (list []string) {
	t.Helper()
	seen := map[string]bool{}
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(file)
		if d.IsDir() {
			_, err := fs.Stat(tree, path.Join(file, "go.mod"))
			if file != "." && (err == nil || base[0] == '.' || base[0] == '_' || base == "testdata") {
				return fs.SkipDir // as the go command does; a module of its own is none of the product
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		src, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from := path.Dir(file)
		if _, known := arrows[from]; !known {
			list = append(list, file+": package "+from+" is not in the table of packages")
			return nil
		}
		seen[from] = true
		for _, i := range f.Imports {
			to, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if why := wrong(from, to, strings.HasSuffix(base, "_test.go")); why != "" {
				list = append(list, file+" imports "+to+": "+why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range arrows {
		if !seen[pkg] {
			list = append(list, "the table names "+pkg+", which has no files")
		}
	}
	slices.Sort(list)
	return list
}

// wrong returns why a file of package from must not import to, "" if it may.
func wrong(from, to string, test bool) string {
	if rest, ours := strings.CutPrefix(to, "proxyd/"); ours {
		rest = strings.TrimPrefix(rest, "internal/")
		rule := arrows[from]
		switch {
		case has(rule.may, rest):
		case test && (rest == "testkit" || has(rule.tests, rest) || "internal/"+rest == from):
		case rest == "testkit" || rest == "e2e":
			return "it is for tests"
		default:
			return "the table has no arrow from " + from + " to it"
		}
		return ""
	}
	if to == "text/template" || to == "html/template" {
		if test || from == "bench" {
			return ""
		}
		return "with it the linker keeps every exported method, which makes the program a third larger"
	}
	if first, _, _ := strings.Cut(to, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for module, m := range modules {
		if to == module || strings.HasPrefix(to, module+"/") {
			if has(m.by, strings.TrimPrefix(from, "internal/")) || test && m.tests {
				return ""
			}
			who := m.by
			if m.tests {
				who = "tests"
			}
			return "that is for " + who + " alone"
		}
	}
	return "the table does not know this module"
}

func has(words, word string) bool { return slices.Contains(strings.Fields(words), word) }

// TestWrongArrowsAreFound breaks each rule of the tables.
func TestWrongArrowsAreFound(t *testing.T) {
	for _, c := range []struct{ name, file, imports, want string }{
		{"leftwards", "internal/router/x.go", "proxyd/internal/tunnel", "the table has no arrow from internal/router to it"},
		{"leftwards in a test", "internal/router/x_test.go", "proxyd/internal/tunnel", "the table has no arrow from internal/router to it"},
		{"leftwards on another system", "internal/relay/x_windows.go", "proxyd/internal/config", "the table has no arrow from internal/relay to it"},
		{"what only tests may", "internal/inbound/x.go", "proxyd/internal/relay", "the table has no arrow from internal/inbound to it"},
		{"testkit outside tests", "internal/daemon/x.go", "proxyd/internal/testkit", "it is for tests"},
		{"testkit imports nothing", "internal/testkit/x.go", "proxyd/internal/target", "the table has no arrow from internal/testkit to it"},
		{"e2e", "cmd/proxyd/x.go", "proxyd/e2e", "it is for tests"},
		{"cobra", "internal/daemon/x.go", "github.com/spf13/cobra", "that is for cmd/proxyd alone"},
		{"zap, a package below", "internal/tunnel/x.go", "go.uber.org/zap/zapcore", "that is for daemon cmd/proxyd alone"},
		{"goproxy", "internal/tunnel/x.go", "github.com/elazarl/goproxy", "that is for inbound alone"},
		{"go-socks5, a package below", "internal/upstream/x.go", "github.com/things-go/go-socks5/statute", "that is for inbound alone"},
		{"viper", "cmd/proxyd/x.go", "github.com/spf13/viper", "that is for config alone"},
		{"x/sys", "internal/upstream/x_linux.go", "golang.org/x/sys/unix", "that is for relay inbound daemon admin handover child isolate cmd/proxyd testkit alone"},
		{"idna", "internal/router/x.go", "golang.org/x/net/idna", "that is for target alone"},
		{"a test's library outside tests", "internal/target/x.go", "github.com/google/go-cmp/cmp", "that is for tests alone"},
		{"templates", "internal/admin/x.go", "html/template", "with it the linker keeps every exported method, which makes the program a third larger"},
		{"an unknown module", "internal/target/x.go", "example.org/left/pad", "the table does not know this module"},
		{"the rest of x/net", "internal/target/x.go", "golang.org/x/net/proxy", "the table does not know this module"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := fstest.MapFS{c.file: {Data: []byte("package x\n\nimport _ \"" + c.imports + "\"\n")}}
			want := c.file + " imports " + c.imports + ": " + c.want
			if got := wrongArrows(t, tree); !slices.Contains(got, want) {
				t.Errorf("got %q, want %q among them", got, want)
			}
		})
	}
	t.Run("a module of its own", func(t *testing.T) {
		text := []byte("package x\n\nimport _ \"example.org/left/pad\"\n")
		tree := fstest.MapFS{"tools/go.mod": {Data: []byte("module proxyd/tools\n")}, "tools/page/x.go": {Data: text}}
		for _, w := range wrongArrows(t, tree) {
			if strings.Contains(w, "tools/") {
				t.Error(w)
			}
		}
	})
	t.Run("a package that the table lacks", func(t *testing.T) {
		tree := fstest.MapFS{"internal/util/x.go": {Data: []byte("package util\n")}}
		want := "internal/util/x.go: package internal/util is not in the table of packages"
		if got := wrongArrows(t, tree); !slices.Contains(got, want) {
			t.Errorf("got %q, want %q among them", got, want)
		}
	})
}
