package metrics

import (
	"time"

	"proxyd/internal/feed"
)

// Options say what the metrics show beside the records. Each func is asked at
// every scrape, from the scrape's goroutine, with no lock of this package held;
// one that is nil leaves its metrics out.
type Options struct {
	Version, Revision string // of the build
	Catalogue         string // the date of the catalogue
	Generation        int    // of this process: 1, and one more after each upgrade

	// Tunnels calls each once for every live tunnel, with what it has carried
	// so far. A tunnel must be among them from its Opened record until its Ended one.
	Tunnels func(each func(id string, up, down int64))
	// Upstreams and Exchanges are the names that the configuration in force and its
	// catalogue know. Series of others vanish with their last tunnel; without the
	// func they stay.
	Upstreams    func() []string
	Exchanges    func() []string
	Feeds        func() feed.Report
	MaxTunnels   func() int // the limit of tunnels in force; 0 is none
	Generations  func() []Generation
	Up           func() []Up
	Verdicts     func() []Verdict
	Certificates func() []Certificate // of upstreams
	Listeners    func() []Certificate // of listeners
	Budgets      func() []Budget
	FleetUsed    func() []bool // whether Redis is used; empty without a fleet
	Lists        func() []List // from URLs
	Short        func() []Short
	LogDropped   func() uint64 // lines that were lost
	LogErrors    func() uint64 // failed writes of the log
}

// Generation is a process of this service that still has tunnels.
type Generation struct{ Number, Tunnels int }

// Up is whether an upstream is in use or ejected.
type Up struct {
	Upstream string
	Up       bool
}

// Verdict is the one that holds for an upstream and an exchange.
type Verdict struct{ Upstream, Exchange, Kind, Verdict string }

// Certificate is the one that an upstream showed last, or that a listener shows.
type Certificate struct {
	Name     string // of the upstream or listener
	NotAfter time.Time
}

// Budget is what is left of a budget. Exchange and Kind are "" for one of all
// traffic.
type Budget struct {
	Exchange, Kind, Exit string
	Limit, Remaining     int
	Refused              uint64 // so far
}

// List is a list from a URL.
type List struct {
	Name    string    // the pool's
	Success time.Time // when it was last known to be the newest; zero: never
}

// Short counts the tunnels of one exchange and kind through one upstream that
// ended at once.
type Short struct {
	Exchange, Kind, Upstream string
	Count                    uint64
}

// exchangeLabel returns an exchange as a label, "none" for hosts of no exchange.
func exchangeLabel(name string) string {
	if name == "" {
		return "none"
	}
	return name
}

func kindLabel(kind string) string {
	if kind == "" {
		return "unknown" // refused before it was known
	}
	return kind
}

func allLabel(s string) string {
	if s == "" {
		return "all"
	}
	return s
}
