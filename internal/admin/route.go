package admin

import (
	"errors"
	"slices"
	"strings"

	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/target"
	"proxyd/internal/upstream"
)

// Route is the route of one host, for programs: what `proxyd route --format
// json` and /api/v1/route answer for each host.
type Route struct {
	Host     string        `json:"host"`
	Port     uint16        `json:"port"` // 0 where the host is none
	Exchange string        `json:"exchange,omitempty"`
	Kind     string        `json:"kind,omitempty"`
	KindFrom string        `json:"kind_from,omitempty"`
	Rule     string        `json:"rule,omitempty"`
	Warnings []string      `json:"warnings"`
	Refused  string        `json:"refused,omitempty"` // why; the rest is then missing
	Hint     string        `json:"hint,omitempty"`    // what to do about that, where the configuration refuses it
	Pool     string        `json:"pool,omitempty"`
	Members  []RouteMember `json:"members,omitempty"`
	Timeout  float64       `json:"timeout_seconds,omitempty"`
}

// RouteMember is a member of the pool, in the order of the file.
type RouteMember struct {
	Name    string  `json:"name"`
	URL     string  `json:"url"`           // credentials masked
	Via     string  `json:"via,omitempty"` // the pools of hops before it, the nearest to it first: "corp via hq"
	Tier    int     `json:"tier"`
	Weight  float64 `json:"weight"`
	Enabled bool    `json:"enabled"`
	State   string  `json:"state,omitempty"` // what a running daemon has found out, in a few words
}

// Explain returns the route of HOST[:PORT] (443 without one). outlook may be nil:
// without a running daemon nothing is known of the members.
func Explain(r *router.Router, hostport string, hint router.Hint, outlook func(*upstream.Pool, upstream.Member, upstream.Target) string) Route {
	host, port, err := target.SplitHostPort(hostport)
	if err != nil {
		host, port = hostport, 443
	}
	x := r.Explain(host, port, hint)
	var bad *router.BadTarget
	if errors.As(x.Err, &bad) {
		if err == nil || strings.Count(hostport, ":") != 1 || strings.Contains(hostport, "@") {
			err = bad
		}
		return Route{Host: withoutUser(hostport), Warnings: []string{}, Refused: err.Error()}
	}
	answer := Route{Host: host, Port: port, Exchange: x.Target.Exchange, KindFrom: x.KindFrom, Rule: x.Rule, Warnings: append([]string{}, x.Warnings...)}
	if id, known := r.Config().Known().Resolve(host); known && x.Target.Exchange == "" && !strings.Contains(host, ".") {
		answer.Warnings = append(answer.Warnings, host+" is read as a host, not as the exchange: its hosts are listed by proxyd exchanges "+id)
	}
	if x.KindFrom != "" {
		answer.Kind = x.Target.Kind.String()
	}
	if x.Err != nil {
		answer.Refused = x.Err.Error()
		if no, ok := errors.AsType[*router.Denied](x.Err); ok {
			answer.Hint = no.Hint
		}
		return answer
	}
	answer.Pool, answer.Timeout = x.Route.Pool.Name(), x.Route.Timeout.Seconds()
	for _, m := range x.Route.Pool.Members() {
		member := RouteMember{Name: m.Name(), URL: m.URL(), Via: m.Via(), Tier: m.Tier, Weight: m.Weight, Enabled: m.Enabled}
		if outlook != nil {
			member.State = outlook(x.Route.Pool, m, x.Route.Target)
		}
		answer.Members = append(answer.Members, member)
	}
	if !slices.ContainsFunc(answer.Members, func(m RouteMember) bool { return m.Enabled }) {
		answer.Refused = "no member of " + answer.Pool + " is enabled: 503 no_upstream"
	} else if e := x.Route.Pool.Refuses(x.Route.Target); e != nil {
		answer.Refused = "target " + e.Text + "; " + e.Hint
	}
	return answer
}

// withoutUser is a target as it was asked for, without what may be a password.
func withoutUser(hostport string) string {
	if i := strings.LastIndexByte(hostport, '@'); i >= 0 {
		return "***" + hostport[i:]
	}
	return hostport
}

// HasListener reports whether a configuration has a listener ("" is any), and
// lists those that it has.
func HasListener(c *config.Config, address string) (have string, ok bool) {
	all := make([]string, len(c.Listen))
	for i, l := range c.Listen {
		all[i] = l.Address
		ok = ok || l.Address == address
	}
	return strings.Join(all, ", "), ok || address == ""
}
