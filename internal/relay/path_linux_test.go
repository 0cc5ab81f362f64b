package relay

import "testing"

// TestUnanswered: numbers as TCP_INFO gives them.
func TestUnanswered(t *testing.T) {
	const limit = 15_000
	for _, c := range []struct {
		name                string
		unacked             uint32
		retransmits, probes uint8
		lastAck             uint32
		want                bool
	}{
		{"silent for hours", 0, 0, 0, 10_000_000, false},
		{"data on its way", 3, 0, 0, 20, false},
		{"data lost once", 3, 1, 0, 900, false},
		{"the first data after a silence", 1, 0, 0, 60_000, false},
		{"the first keepalive probe after a silence", 0, 0, 1, 15_004, false},
		{"a probe of a closed window, 28 s behind the last", 0, 0, 1, 28_000, false},
		{"a reader that stands, and answers probes", 0, 0, 0, 119_000, false},
		{"two probes, within the limit", 0, 0, 2, 9_000, false},
		{"data, at the limit", 3, 4, 0, limit, false},
		{"retransmits of data that has arrived since", 0, 4, 0, 60_000, false},

		{"data, past the limit", 3, 4, 0, limit + 1, true},
		{"data after a silence, lost", 1, 1, 0, 60_000, true},
		{"the second keepalive probe", 0, 0, 2, 25_004, true},
		{"probes and data", 1, 3, 2, 40_000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := unanswered(c.unacked, c.retransmits, c.probes, c.lastAck, limit); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
