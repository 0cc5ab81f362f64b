package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

func TestListenerCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key, other := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem"), filepath.Join(dir, "other.pem")
	pair(t, cert, key)
	pair(t, filepath.Join(dir, "unused.pem"), other)
	text := "listen: {address: \"127.0.0.1:1\", tls: {cert_file: " + cert + ", key_file: KEY}}\n"
	if c := load(t, strings.ReplaceAll(text, "KEY", key)); c.Listen[0].TLSCert != cert || c.Listen[0].TLSKey != key {
		t.Errorf("got %+v", c.Listen)
	}
	got := errs(t, strings.ReplaceAll(text, "KEY", other))
	if want := "proxyd.yaml:1:34: listen.tls: no certificate: private key does not match public key; "; len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("got %q, want %s", got, want)
	}
	path := write(t, strings.ReplaceAll(text, "KEY", filepath.Join(dir, "none.pem")))
	if _, err := config.LoadWith(path, nil, config.Options{NoSecrets: true}); err != nil {
		t.Errorf("without secrets: %v", err)
	}
}

// pair writes a certificate and its key.
func pair(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const catalogHead = "exchange,host,kind,env,sources\n"

// overlay writes rows for the catalogue and a configuration that names them.
func overlay(t *testing.T, rows, text string) (file, path string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, write(t, "catalog: "+file+"\n"+text)
}

// Rows that take a host from another exchange are said, as under hosts.
func TestCatalogFileThatMovesHosts(t *testing.T) {
	_, path := overlay(t, catalogHead+"KRAKEN,api.binance.com,http,live,x\nbinance,stream.binance.com,websocket,live,x\nkraken,new.binance.com,http,live,x\n", "default: direct\n")
	c, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Message, ": api.binance.com (binance → kraken)") {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

// An id in the catalogue's file that is nearly a known one is probably mistyped: its
// hosts would follow no entry.
func TestCatalogFileWithMistypedID(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		id, config, want string
	}{
		"one letter":        {"krakn", "default: direct\n", "has rows of krakn, which proxyd's own catalogue does not have; did you mean kraken?"},
		"it has an entry":   {"krakn", "default: direct\nexchanges: {krakn: reject}\n", ""},
		"an exchange's own": {"kraken", "default: direct\n", ""},
		"something else":    {"my_venue", "default: direct\n", ""},
	} {
		_, path := overlay(t, catalogHead+tt.id+",api.venue.example,http,live,\n", tt.config)
		c, err := config.Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, w := range c.Warnings {
			got += w.Message
		}
		if got != tt.want {
			t.Errorf("%s: warnings %q, want %q", name, got, tt.want)
		}
	}
}

func TestCatalogFile(t *testing.T) {
	t.Parallel()
	file, path := overlay(t, catalogHead+"my_venue,api.venue.example,http,live,\n", "default: direct\nexchanges: {my_venue: reject}\n")
	a, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if id, _, ok := a.Known().Lookup("api.venue.example"); !ok || id != "my_venue" || a.Exchanges[0].ID != id {
		t.Errorf("got %q %v, %+v", id, ok, a.Exchanges[0])
	}
	if !slices.Contains(a.Files(), file) || !slices.Contains(config.NamedFiles(path), file) || !strings.Contains(config.Print(a), "catalog: "+file) {
		t.Errorf("files %q, named %q, printed:\n%s", a.Files(), config.NamedFiles(path), config.Print(a))
	}
	if err := os.WriteFile(file, []byte(catalogHead+"my_venue,api.venue.example,both,live,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Diff(a, b); len(got) != 1 || got[0] != "~ catalog: the rows of "+file+" changed" {
		t.Errorf("got %q", got)
	}
	none, err := config.Load(write(t, "default: direct\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Diff(none, none); len(got) != 0 || none.Files() != nil {
		t.Errorf("got %q, files %q", got, none.Files())
	}
	env, err := config.Load(write(t, "default: direct\n"), []string{"PROXYD_CATALOG=" + file})
	if err != nil || env.CatalogFile != file {
		t.Errorf("from the environment: %v, %+v", err, env)
	}
}

func TestCatalogFileErrors(t *testing.T) {
	t.Parallel()
	file, path := overlay(t, catalogHead+"binance,x.example,grpc,live,\nbinance,https://y,http,live,\n", "default: direct\n")
	_, err := config.Load(path, nil)
	for _, want := range []string{
		path + ":1:10: catalog: " + file + ": row 1: not a kind: write http, websocket or both",
		path + ":1:10: catalog: " + file + ": row 2: the host must be a name, or *.name",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	_, err = config.Load(write(t, "catalog: /no/such.csv\ndefault: direct\n"), nil)
	if want := "catalog: /no/such.csv cannot be read: no such file or directory; create the file, or correct the path"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestUserAgentOfChecks(t *testing.T) {
	t.Parallel()
	c, err := config.Load(write(t, "default: direct\n"), nil)
	if err != nil || c.UserAgent == "" || strings.Contains(config.Print(c), "user_agent") {
		t.Errorf("unset: %v, %+v", err, c)
	}
	c, err = config.Load(write(t, "default: direct\nprobe: {user_agent: bot/1}\n"), nil)
	if err != nil || c.UserAgent != "bot/1" || !strings.Contains(config.Print(c), "user_agent: bot/1") {
		t.Errorf("set: %v, %+v", err, c)
	}
	for _, bad := range []string{`""`, `"a\r\nX: y"`, `"é"`, `" a"`, strings.Repeat("a", 257)} {
		if _, err := config.Load(write(t, "default: direct\nprobe: {user_agent: "+bad+"}\n"), nil); err == nil || !strings.Contains(err.Error(), "probe.user_agent: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Keys are put into the queries of URLs. What is shown of a probe's URL has no value
// of its query, and a change of one is still a change.
func TestQueryOfProbeURLIsMasked(t *testing.T) {
	t.Parallel()
	load := func(query string) *config.Config {
		c, err := config.Load(write(t, "default: direct\nexchanges: {okx: {probe: {http: \"https://a.example/time?"+query+"\"}}}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := load("key=s3cret&raw-s3cret&none="), load("key=other&raw-s3cret&none=")
	if got := string(a.Exchanges[0].Probe.HTTP); got != "https://a.example/time?key=s3cret&raw-s3cret&none=" {
		t.Errorf("asks for %s", got)
	}
	shown := config.Print(a) + fmt.Sprintf("%v %+v", a.Exchanges[0].Probe, a.Exchanges[0]) + strings.Join(config.Diff(load("x=1"), a), "\n")
	if strings.Contains(shown, "s3cret") || !strings.Contains(shown, "https://a.example/time?key=***&***&none=") {
		t.Errorf("shown:\n%s", shown)
	}
	if got := config.Diff(a, b); len(got) != 1 || got[0] != "~ exchanges.okx.probe.http changed" {
		t.Errorf("changes: %q", got)
	}
}
