package e2e

import (
	"strings"
	"testing"
	"time"
)

// trouble is one thing that goes wrong at a desk.
type trouble struct {
	name   string
	within time.Duration // line 1 shows it; 0: a minute
	happen func(t *testing.T, d *desk)
	end    func(t *testing.T, d *desk)
	words  []string // of line 1
	dated  bool     // line 1 holds the time at which it began
}

const cured = 10 * time.Second

// night has the troubles happen one after another.
func (d *desk) night(t *testing.T, list []trouble) {
	for _, tr := range list {
		if !t.Run(tr.name, func(t *testing.T) {
			within := tr.within
			if within == 0 {
				within = time.Minute
			}
			began := time.Now()
			tr.happen(t, d)
			line := d.shows(t, began, within, tr.words...)
			shown := time.Since(began)
			if tr.dated {
				dated(t, line, began)
			}
			tr.end(t, d)
			t.Logf("shown after %.1f s, ok %.1f s after its end: %s", shown.Seconds(), d.well(t, cured).Seconds(), line)
		}) {
			return
		}
	}
}

func (d *desk) save(t *testing.T, yaml string) {
	t.Helper()
	saving(withListen(yaml))(t, d.File)
}

// What goes wrong with the file.
//
// Promise (data path): a file with an error, or without an entry, changes nothing for feeds that run, and line 1 says so within a second.
func TestNightOfTheFile(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 40, "", "watch: true\n")
	good := d.config(d.pools(nil), d.entries(""))
	restore := func(t *testing.T, d *desk) { d.save(t, good) }
	d.night(t, []trouble{
		{
			name: "typo",
			happen: func(t *testing.T, d *desk) {
				d.save(t, strings.Replace(good, "websocket: osaka", "websocket: osakka", 1))
			},
			words: []string{"FILE NOT IN FORCE: ", "proxyd.yaml:", "exchanges.okx.websocket: there is no pool of that name"},
			end:   restore,
		},
		{
			name:   "entry deleted, no default",
			happen: func(t *testing.T, d *desk) { d.save(t, d.config(d.pools(nil), d.entries("okx"))) },
			words:  []string{"FILE NOT IN FORCE: ", "okx"},
			end:    restore,
		},
	})
}
