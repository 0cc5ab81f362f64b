package page

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"proxyd/internal/testkit"
)

var (
	shotsDir = flag.String("shots", "", "write pictures of the page into this directory")
	axeFile  = flag.String("axe", "", "axe.min.js of axe-core, which checks what the pictures show")
)

// shot is a view, and where its pictures are kept.
type shot struct {
	name, hash, ready string
	keep              []string // "1600-light"
}

var shots = []shot{
	{"overview", "#/", "Exchanges", []string{"1600-light", "1600-dark", "390-light", "390-dark"}},
	{"exchange", "#/exchange/okx", "Time to open", []string{"1600-light"}},
	{"upstream", "#/upstream/tokyo-1", "Verdicts", []string{"1600-dark"}},
	{"events", "#/events", "Severity", []string{"1600-light"}},
	{"config", "#/config", "secrets masked", nil},
}

// TestPictures checks each view with axe-core, contrast included, in light and
// dark, on a wide and on a narrow screen, and takes the pictures of the documents.
func TestPictures(t *testing.T) {
	if *shotsDir == "" || *axeFile == "" {
		t.Skip("make page-shots runs it")
	}
	axe, err := os.ReadFile(*axeFile)
	if err != nil {
		t.Fatal(err)
	}
	w := newBusyWorld(t)
	for _, s := range shots {
		for _, width := range []int64{1600, 390} {
			for _, dark := range []bool{false, true} {
				name := fmt.Sprintf("%d-%s", width, map[bool]string{false: "light", true: "dark"}[dark])
				t.Run(s.name+"-"+name, func(t *testing.T) {
					b := newTab(t, w.Page)
					b.size(width, dark)
					b.run(chromedp.Navigate(w.Page + s.hash))
					b.ready()
					b.shows(5*time.Second, "main", s.ready)
					if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > width {
						t.Errorf("it is %d pixels wide", wide)
					}
					b.accessible(string(axe))
					if slices.Contains(s.keep, name) {
						write(t, filepath.Join(*shotsDir, s.name+"-"+name+".png"), b.picture(float64(width), 930))
					}
				})
			}
		}
	}
}

// newBusyWorld has feeds that run, an exchange that is lost, an upstream out of
// use, and a minute of it behind it.
func newBusyWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "")
	for range 12 {
		w.follow(w.x, okx, "/ticker?ms=25")
	}
	for i := range 9 {
		w.follow(w.x, futures, fmt.Sprintf("/ticker?ms=%d", 10+5*i))
	}
	w.follow(w.x, "ws.kraken.com", "/ticker?ms=200")
	time.Sleep(40 * time.Second) // the lines of the rates show a minute
	w.osaka.SetFault(&testkit.Fault{At: testkit.AtAccept, Do: testkit.Close})
	w.osaka.ResetAll()
	w.tokyo.SetFault(&testkit.Fault{At: testkit.AtRequest, Host: futures, Do: testkit.Answer("403 Forbidden", "no")})
	w.tokyo.ResetAll()
	w.failUntil(t, func() bool {
		st := w.get("/api/v1/status")
		return strings.Contains(st, `"state": "lost"`) && strings.Contains(st, "ejected (for")
	})
	for range 12 {
		w.follow(w.x, okx, "/ticker?ms=25")
	}
	w.follow(w.x, "ws.kraken.com", "/ticker?ms=200")
	end := make(chan struct{})
	tried := make(chan struct{})
	go func() { // ends with the test: a client that does not give up
		defer close(tried)
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Second):
				_, _ = w.open(w.x, futures, "/ticker?ms=50")
			}
		}
	}()
	t.Cleanup(func() { close(end); <-tried })
	time.Sleep(15 * time.Second)
	return w
}

// accessible runs axe-core on what is shown.
func (b *tab) accessible(axe string) {
	b.t.Helper()
	b.run(chromedp.Evaluate[chromedp.Void](axe))
	for _, v := range eval[[]string](b, `axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
		.then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + v.help + ': ' + n.html.slice(0, 200) + ' ' + n.any.map((a) => a.message).join('; '))))`) {
		b.t.Error(v)
	}
	if n := eval[int](b, "axe.run().then((r) => r.passes.length)"); n < 10 {
		b.t.Errorf("axe-core has checked %d rules", n)
	}
}

// write keeps a picture with at most 256 colours, which is a third of the size.
func write(t *testing.T, file string, data []byte) {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, fewColours(full)); err != nil {
		t.Fatal(err)
	}
	if small.Len() > 150_000 {
		t.Errorf("%s has %d bytes", file, small.Len())
	}
	if err := os.WriteFile(file, small.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fewColours replaces the colours that are rare by the nearest of the others.
func fewColours(full image.Image) *image.Paletted {
	count := map[color.RGBA]int{}
	bounds := full.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[rgba(full.At(x, y))]++
		}
	}
	var all []color.RGBA
	for c := range count {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B))
	})
	var palette color.Palette
	for _, c := range all[:min(256, len(all))] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for _, c := range all {
		index[c] = uint8(palette.Index(c))
	}
	small := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			small.SetColorIndex(x, y, index[rgba(full.At(x, y))])
		}
	}
	return small
}

func rgba(c color.Color) color.RGBA {
	r, g, b, _ := c.RGBA()
	return color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}
}
