package target

import (
	"strings"
	"testing"
)

func TestParsePattern(t *testing.T) {
	tests := []struct {
		in, want string
		kind     PatternKind
	}{
		{"api.venue.example", "api.venue.example", Exact},
		{"API.Venue.example.", "api.venue.example", Exact},
		{"bücher.example", "xn--bcher-kva.example", Exact},
		{"*.Venue.example", "*.venue.example", Wildcard},
		{"*.example", "*.example", Wildcard},
		{"*", "*", Any},
		{"10.1.0.0/16", "10.1.0.0/16", CIDR},
		{"0.0.0.0/0", "0.0.0.0/0", CIDR},
		{"2001:db8::/32", "2001:db8::/32", CIDR},
		{"::ffff:10.0.0.0/104", "10.0.0.0/8", CIDR},
		{"203.0.113.9", "203.0.113.9", CIDR},
		{"203.0.113.9/32", "203.0.113.9", CIDR},
		{"[2001:db8::1]", "2001:db8::1", CIDR},
		{"2001:db8::1", "2001:db8::1", CIDR},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			p, err := ParsePattern(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if p.Kind != tt.kind || p.String() != tt.want {
				t.Errorf("got kind %d, %s; want %d, %s", p.Kind, p, tt.kind, tt.want)
			}
			if again, err := ParsePattern(p.String()); err != nil || again != p {
				t.Errorf("read again: %v, %v", again, err)
			}
		})
	}
}

func TestParsePatternRefuses(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "empty"},
		{"*.", "no host"},
		{"**", "write *.name"},
		{"*x.example", "write *.name"},
		{"api.*.example", "write *.name"},
		{"*.*.example", "has a * in it"},
		{"*.10.0.0.1", "write a CIDR"},
		{"*.1", "ends in a number"},
		{".venue.example", "write *.name"},
		{"https://venue.example", "is a URL"},
		{"venue.example:443", "has a port"},
		{"venue.example/x", "is not a CIDR"},
		{"10.1.0.1/16", "write 10.1.0.0/16"},
		{"10.1.0.0/33", "is not a CIDR"},
		{"10.1.0.0/016", "is not a CIDR"},
		{"10.1/16", "is not a CIDR"},
		{"fe80::1%eth0", "zones"},
		{"127.1", "ends in a number"},
		{"a b", "space"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			p, err := ParsePattern(tt.in)
			if err == nil {
				t.Fatalf("taken as %s, want an error", p)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
			checkSentence(t, err)
		})
	}
}

func TestPatternCovers(t *testing.T) {
	tests := []struct {
		pattern, host string
		want          bool
	}{
		{"venue.example", "VENUE.example.", true},
		{"venue.example", "api.venue.example", false},
		{"venue.example", "xvenue.example", false},
		{"*.venue.example", "api.venue.example", true},
		{"*.venue.example", "a.b.venue.example", true},
		{"*.venue.example", "venue.example", false},
		{"*.venue.example", "xvenue.example", false},
		{"*.venue.example", "venue.example.com", false},
		{"10.1.0.0/16", "10.1.2.3", true},
		{"10.1.0.0/16", "[::ffff:10.1.2.3]", true},
		{"10.1.0.0/16", "10.2.2.3", false},
		{"10.1.0.0/16", "a10.example", false},
		{"0.0.0.0/0", "[2001:db8::1]", false},
		{"0.0.0.0/0", "venue.example", false},
		{"::/0", "2001:db8::1", true},
		{"203.0.113.9", "203.0.113.9.", true},
		{"203.0.113.9", "203.0.113.10", false},
		{"*", "venue.example", true},
		{"*", "203.0.113.9", true},
	}
	for _, tt := range tests {
		p, err := ParsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHost(tt.host)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Covers(h.Name); got != tt.want {
			t.Errorf("%s against %s: %v, want %v", tt.pattern, tt.host, got, tt.want)
		}
	}
	if (Pattern{}).Covers("a") || (Pattern{Kind: Any}).Covers("") {
		t.Error("the zero pattern and the zero host match something")
	}
}
