package relay

import (
	"testing"
	"time"
)

// TestDead: what the watchdog makes of a row of looks, 5 s apart.
func TestDead(t *testing.T) {
	type look struct {
		some    bool // in flight
		lastAck int  // seconds ago
	}
	const never = -1
	for _, c := range []struct {
		name  string
		looks []look
		want  int // at which look it is called dead
	}{
		{"silent for hours", []look{{false, 3600}, {false, 3605}, {false, 3610}, {false, 3615}}, never},
		{"a busy feed", []look{{true, 0}, {true, 0}, {true, 0}, {true, 0}, {true, 0}}, never},
		{"the first byte after a silence", []look{{false, 600}, {true, 605}, {false, 4}, {false, 9}}, never},
		{"a look at each first byte", []look{{true, 20}, {false, 5}, {false, 10}, {false, 15}, {true, 20}, {false, 5}}, never},
		{"the same, sent again and then answered", []look{{true, 600}, {true, 605}, {false, 1}}, never},
		{"answered between looks, and more in flight", []look{{true, 60}, {true, 3}, {true, 8}, {true, 2}, {true, 7}, {true, 12}}, never},
		{"keepalive probes, answered", []look{{true, 15}, {false, 5}, {false, 10}, {true, 15}, {false, 5}}, never},
		{"a closed window, probes answered 2 min apart", []look{{false, 110}, {false, 115}, {true, 120}, {false, 5}}, never},
		{"unanswered, not yet for so long", []look{{true, 5}, {true, 10}, {true, 15}}, never},

		{"a feed, then nothing", []look{{true, 0}, {true, 5}, {true, 10}, {true, 15}, {true, 20}}, 4},
		{"the same, looks fall otherwise", []look{{true, 0}, {true, 4}, {true, 9}, {true, 14}, {true, 19}}, 4},
		{"a first byte after a silence, lost", []look{{false, 600}, {true, 601}, {true, 606}, {true, 611}}, 3},
		{"keepalive probes, lost", []look{{false, 12}, {true, 17}, {true, 22}, {true, 27}}, 3},
		{"well, then dead", []look{{true, 16}, {false, 4}, {true, 9}, {true, 14}, {true, 19}}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, at := never, 100*time.Second
			var p inFlight
			for i, l := range c.looks {
				if p.dead(l.some, time.Duration(l.lastAck)*time.Second, at, 15*time.Second, 5*time.Second) {
					got = i
					break
				}
				at += 5 * time.Second
			}
			if got != c.want {
				t.Errorf("dead at look %d, want %d", got, c.want)
			}
		})
	}
}
