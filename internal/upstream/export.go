package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// Memory is what a process that takes over from this one must know of an upstream:
// whether it is ejected, denied, drained. It has no counters.
type Memory struct {
	Key       string        `json:"key"` // of the identity, which may have another name in another file
	Streak    int           `json:"streak,omitempty"`
	Wins      int           `json:"wins,omitempty"`
	Ejections int           `json:"ejections,omitempty"`
	Cause     failure.Class `json:"cause,omitempty"`
	Since     time.Time     `json:"since,omitzero"` // zero: it is not ejected
	Until     time.Time     `json:"until,omitzero"`
	First     time.Time     `json:"first,omitzero"`
	Last      time.Time     `json:"last,omitzero"`
	Back      time.Time     `json:"back,omitzero"`
	Drained   bool          `json:"drained,omitempty"`
	Pairs     []PairMemory  `json:"pairs,omitempty"`

	Certificate Validity `json:"certificate,omitzero"` // of a handshake
}

// PairMemory is the same for one exchange and kind.
type PairMemory struct {
	Exchange string        `json:"exchange"`
	Kind     catalog.Kind  `json:"kind"`
	Latency  time.Duration `json:"latency,omitempty"`
	Drained  bool          `json:"drained,omitempty"`
	Verdict  *Verdict      `json:"verdict,omitempty"`
	Times    int           `json:"times,omitempty"`
}

// Export returns the state of every upstream of the set. It holds neither users nor
// passwords.
func (s *Set) Export() (all []Memory) {
	for _, u := range s.Upstreams() {
		u.state.mu.Lock()
		h := u.state.health
		u.state.mu.Unlock()
		m := Memory{
			Key: keyOf(u.id), Streak: h.streak, Wins: h.wins, Ejections: h.times, Cause: h.cause,
			Since: h.since, Until: h.until, First: h.first, Last: h.last, Back: h.back, Drained: u.Drained(""),
			Certificate: u.Certificate(),
		}
		u.eachPair(func(k pairKey, pr *exchangeState) {
			p := PairMemory{Exchange: k.exchange, Kind: k.kind, Latency: time.Duration(pr.latency.Load()), Drained: pr.drained.Load()}
			if v := pr.verdict.Load(); v != nil {
				verdict := v.Verdict
				p.Verdict, p.Times = &verdict, v.times
			}
			if p.Latency != 0 || p.Drained || p.Verdict != nil {
				m.Pairs = append(m.Pairs, p)
			}
		})
		all = append(all, m)
	}
	return all
}

// Import takes over what another process has exported. Upstreams that the set lacks
// are ignored.
func (s *Set) Import(all []Memory) {
	byKey := map[string]*Upstream{}
	for id, u := range s.upstreams {
		byKey[keyOf(id)] = u
	}
	for _, m := range all {
		if u := byKey[m.Key]; u != nil {
			u.restore(m)
		}
	}
}

// keyOf returns a hash of an identity, which does not reveal the user.
func keyOf(id config.Identity) string {
	text := fmt.Sprintf("%q %q %q %d %q %+v %s %q", id.Scheme, id.User, id.Host, id.Port, id.Via, id.TLS, id.Source, id.Interface)
	if id.Name != "" {
		text += fmt.Sprintf(" %q", id.Name)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
