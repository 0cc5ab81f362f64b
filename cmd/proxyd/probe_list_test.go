package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

func TestProbeList(t *testing.T) {
	p := newProbing(t)
	text := "# from a friend\n" + p.tokyo.URL() + "\n" + p.newYork.URL() + "\nsocks5://eve:geheim-9@\n"
	path := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := p.run(t, "", "--list", path, "--format", "json", "binance")
	if rows := rowsOf(t, out); code != 1 || len(rows) != 4 || rows[p.tokyo.Addr+" binance http"].Verdict != "ok" || rows[p.newYork.Addr+" binance http"].Verdict != "geoblocked" {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	if !strings.Contains(errOut, path+":4:1: ") {
		t.Errorf("the line that is none is not named:\n%s", errOut)
	}

	sum := fmt.Sprintf("%X", sha256.Sum256([]byte(text)))
	out, errOut, code = p.run(t, text, "--list", "-", "--sha256", sum, "--ok", "binance")
	if code != 1 || out != "proxies:\n  - \""+p.tokyo.URL()+"\"\n" || strings.Contains(errOut, "geheim") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	again := &probing{ca: p.ca, configPath: file(t, "admin: \"\"\npools:\n  good:\n    "+strings.ReplaceAll(out, "\n", "\n    ")+"\nexchanges: {binance: good}\n")}
	if _, errOut, code := again.run(t, "", "--kind", "http"); code != 0 {
		t.Errorf("what --ok prints is no pool: exit code %d\n%s", code, errOut)
	}
	before := p.tokyo.Accepted()
	if _, errOut, code := p.run(t, text+"\n", "--list", "-", "--sha256", sum, "binance"); code != 1 || !strings.Contains(errOut, "hashes to") || p.tokyo.Accepted() != before {
		t.Errorf("a list that was changed: exit code %d\n%s", code, errOut)
	}
}

// A list comes by HTTPS alone, and its address may hold a key.
func TestProbeListByHTTPS(t *testing.T) {
	p := newProbing(t)
	p.served.Answer(testkit.VenueReply{Body: p.tokyo.URL()})
	host := "https://" + strings.Replace(p.served.Addr, "127.0.0.1", "localhost", 1)
	_, errOut, code := p.run(t, "", "--list", host+"/proxies?key=geheim-8", "--kind", "http", "kraken")
	if code != 0 || !strings.Contains(errOut, "1 of 1 ok") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	p.served.Answer(testkit.VenueReply{Status: 404})
	if _, errOut, code := p.run(t, "", "--list", host+"/proxies?key=geheim-8", "kraken"); code != 1 || !strings.Contains(errOut, "HTTP 404") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	if _, errOut, code := p.run(t, "", "--list", "http://a.example/x?key=geheim-8", "kraken"); code != 2 || !strings.Contains(errOut, "https://") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
}
