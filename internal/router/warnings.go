package router

import (
	"fmt"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

const directNoDefault = "DIRECT (no default)"

// DirectUnlisted lists what goes direct because no outbound is set: "unlisted
// hosts", "binance.websocket". It is empty when a default is set for both
// kinds.
func (r *Router) DirectUnlisted() []string {
	if r.unlisted.route != nil {
		return nil // a * in routes: nothing gets past them
	}
	d := r.config.Default
	var list []string
	switch {
	case d.HTTP == nil && d.Websocket == nil:
		list = append(list, "unlisted hosts")
	case d.HTTP == nil:
		list = append(list, "unlisted hosts (http)")
	case d.Websocket == nil:
		list = append(list, "unlisted hosts (websocket)")
	}
	for i := range r.config.Exchanges {
		e := &r.config.Exchanges[i]
		for _, k := range catalog.Kinds {
			if e.Outbounds.Of(k) == nil && d.Of(k) == nil && r.serves(e, k) {
				list = append(list, e.ID+"."+k.String())
			}
		}
	}
	return list
}

// DirectSummary returns DirectUnlisted as a sentence, "" when the list is
// empty: "unlisted hosts and binance.websocket: DIRECT (no default)".
func (r *Router) DirectSummary() string {
	list := r.DirectUnlisted()
	if len(list) == 0 {
		return ""
	}
	return joinAnd(list) + ": " + directNoDefault
}

// serves reports whether some host of an exchange may be used for a kind.
func (r *Router) serves(e *config.Exchange, k catalog.Kind) bool {
	for _, h := range e.Hosts {
		if h.Kind != otherKind(k) {
			return true
		}
	}
	x, _ := r.config.Known().Get(e.ID)
	return slices.ContainsFunc(x.Hosts, func(h catalog.Host) bool { return h.Kind != otherKind(k) })
}

// Warnings returns what start, reload and check report about the rules as a
// whole: proxying that is turned off, exchanges of one client id with different
// outbounds, hosts of both kinds whose outbounds differ, and what goes direct
// because no outbound is set.
func (r *Router) Warnings() []string {
	var list []string
	if !r.config.Enabled {
		list = append(list, "enabled is false: what would go through a proxy goes DIRECT; what is refused stays refused")
	}
	list = append(list, r.familyWarnings("")...)
	list = append(list, r.domainWarnings("")...)
	list = append(list, r.bothWarnings()...)
	if s := r.DirectSummary(); s != "" {
		list = append(list, s)
	}
	return list
}

// familyWarnings lists the exchanges without an entry that clients of an
// exchange with another outbound reach too. If only is not "", it is limited to
// that exchange.
func (r *Router) familyWarnings(only string) (list []string) {
	said := map[string]bool{}
	for i := range r.config.Exchanges {
		listed := &r.config.Exchanges[i]
		if listed.Outbounds == (config.Outbounds{}) || r.followsDefault(listed) {
			continue
		}
		var missing []string
		x, _ := r.config.Known().Get(listed.ID)
		for _, id := range x.Family {
			if e := r.entry(id); (e == nil || e.Outbounds == config.Outbounds{}) && !said[id] && (only == "" || id == only) {
				said[id] = true
				missing = append(missing, id)
			}
		}
		if len(missing) == 0 {
			continue
		}
		have := " have no entry: "
		if len(missing) == 1 {
			have = " has no entry: "
		}
		add := "; give " + missing[0] + " the outbound of " + listed.ID + " too"
		if word, ok := outboundsWord(r.config, listed.Outbounds); ok {
			add = "; add " + missing[0] + ": " + word
		}
		list = append(list, strings.Join(missing, ", ")+have+r.defaultWords()+add)
	}
	return list
}

// followsDefault reports whether hosts of e leave as unlisted ones do.
func (r *Router) followsDefault(e *config.Exchange) bool {
	for _, k := range catalog.Kinds {
		if w := e.Outbounds.Of(k); w != nil && !r.sameOutbound(w, r.config.Default.Of(k)) {
			return false
		}
	}
	return true
}

// defaultWords returns where hosts of an exchange without an entry go.
func (r *Router) defaultWords() string {
	d := r.config.Default
	if d.HTTP == nil && d.Websocket == nil {
		return directNoDefault
	}
	if r.sameOutbound(d.HTTP, d.Websocket) && d.HTTP != nil && d.Websocket != nil {
		if s, ok := outboundWord(r.config, d.HTTP); ok {
			return "default (" + s + ")"
		}
	}
	if _, ok := outboundsWord(r.config, d); !ok {
		return "default"
	}
	return "default " + r.bothWords("")
}

// bothWarnings lists the hosts that serve both kinds while the outbounds of the
// kinds differ: inside TLS, REST and streams look alike.
func (r *Router) bothWarnings() (list []string) {
	for i := range r.config.Exchanges {
		id := r.config.Exchanges[i].ID
		if r.config.Exchanges[i].Outbounds == (config.Outbounds{}) || r.sameOutbound(r.effective(id, catalog.KindHTTP), r.effective(id, catalog.KindWebsocket)) {
			continue
		}
		hosts := r.servesBoth(id)
		if len(hosts) == 0 {
			continue
		}
		verb := " serve"
		if len(hosts) == 1 {
			verb = " serves"
		}
		list = append(list, "exchange "+id+": "+joinFew(hosts)+verb+" both kinds, which have different outbounds "+r.bothWords(id)+": "+kindHelp)
	}
	d := r.config.Default
	if r.unlisted.route == nil && !r.sameOutbound(d.HTTP, d.Websocket) {
		list = append(list, "unlisted hosts that serve both kinds, and unknown ones, have different outbounds "+r.bothWords("")+": "+kindHelp)
	}
	return list
}

// SplitsHosts reports whether some host serves both kinds while their outbounds
// differ, so that clients must state the kind.
func (r *Router) SplitsHosts() bool { return len(r.bothWarnings()) > 0 }

// joinFew returns the first three of a list and the number of the others.
func joinFew(list []string) string {
	if len(list) > 4 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:3], ", "), len(list)-3)
	}
	return joinAnd(list)
}

func joinAnd(list []string) string {
	if n := len(list); n > 1 {
		return strings.Join(list[:n-1], ", ") + " and " + list[n-1]
	}
	return list[0]
}
