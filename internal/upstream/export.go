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

// Memory is what another process must know of an upstream that takes over from
// this one: who is ejected, denied, drained. Counters are not part of it.
type Memory struct {
	Key       string        `json:"key"` // stands for the identity, which another file gives another name
	Streak    int           `json:"streak,omitempty"`
	Wins      int           `json:"wins,omitempty"`
	Ejections int           `json:"ejections,omitempty"`
	Cause     failure.Class `json:"cause,omitempty"`
	Since     time.Time     `json:"since,omitzero"` // zero: it is not ejected
	Until     time.Time     `json:"until,omitzero"`
	Last      time.Time     `json:"last,omitzero"`
	Back      time.Time     `json:"back,omitzero"`
	Drained   bool          `json:"drained,omitempty"`
	Pairs     []PairMemory  `json:"pairs,omitempty"`
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

// Export gives what is remembered of every upstream of the set, as JSON carries
// it. It holds neither users nor passwords.
func (s *Set) Export() (all []Memory) {
	for _, u := range s.Upstreams() {
		u.state.mu.Lock()
		h := u.state.health
		u.state.mu.Unlock()
		m := Memory{
			Key: keyOf(u.id), Streak: h.streak, Wins: h.wins, Ejections: h.times, Cause: h.cause,
			Since: h.since, Until: h.until, Last: h.last, Back: h.back, Drained: u.Drained(""),
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

// Import takes over what another process has exported. What it says of upstreams
// that the set lacks is dropped.
func (s *Set) Import(all []Memory) {
	byKey := map[string]*Upstream{}
	for id, u := range s.upstreams {
		byKey[keyOf(id)] = u
	}
	for _, m := range all {
		if u := byKey[m.Key]; u != nil {
			u.recall(m)
		}
	}
}

// keyOf is an identity as text from which nobody reads the user.
func keyOf(id config.Identity) string {
	text := fmt.Sprintf("%q %q %q %d %q %+v %s %q", id.Scheme, id.User, id.Host, id.Port, id.Via, id.TLS, id.Source, id.Interface)
	if id.Name != "" {
		text += fmt.Sprintf(" %q", id.Name)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
