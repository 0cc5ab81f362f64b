package admin

import (
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
)

// The page: page.html is the state when it was asked for, as plain tables; the
// scripts take over and keep it up to date.
//
//go:embed page/*
var pageFS embed.FS

// pagePath is where a browser finds the page's style and scripts.
const pagePath = "/page/"

// pageFiles holds the style and the scripts, by name.
var pageFiles = func() map[string][]byte {
	files := map[string][]byte{}
	entries, err := pageFS.ReadDir("page")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, e := range entries {
		if path.Ext(e.Name()) == ".html" {
			continue
		}
		if files[e.Name()], err = fs.ReadFile(pageFS, "page/"+e.Name()); err != nil {
			panic(err) // it is embedded
		}
	}
	return files
}()

// pageText is the page, with {{names}} where writePage puts what it shows.
var pageText = func() string {
	text, err := pageFS.ReadFile("page/page.html")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(text)
}()

// pagePolicy lets the page use its own style, scripts and icon, and ask this server;
// nothing else, and nothing inline; and no text becomes an element.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; require-trusted-types-for 'script'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// refreshSeconds is how often a page without script loads itself again.
const refreshSeconds = 5

// pageFile serves the page's style and scripts.
func pageFile(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	kind := mime.TypeByExtension(path.Ext(name))
	if path.Ext(name) == ".js" { // the system's table may say otherwise, and a browser then refuses it
		kind = "text/javascript; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(pageFiles[name])
}

// rank returns how bad an upstream's state is; the worst are shown first.
func rank(u Upstream) int {
	switch {
	case u.Bad:
		return 2
	case u.State != "":
		return 1
	}
	return 0
}

// byteWords writes a rate or a size for people: "1.2 MB".
func byteWords(n float64) string {
	const units = "kMGT"
	unit := ""
	for i := 0; n >= 999.5 && i < len(units); i++ {
		n /= 1000
		unit = units[i : i+1]
	}
	if n >= 10 || unit == "" {
		return fmt.Sprintf("%.0f %sB", n, unit)
	}
	return fmt.Sprintf("%.1f %sB", n, unit)
}
