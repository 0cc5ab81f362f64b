package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/config"
)

// refusal is an error answer: a status, and a sentence that says what to do.
type refusal struct {
	status int
	text   string
	header [2]string // one more field; "" for none

	challenges []string // how to show the token, the one that a browser knows first
}

func (n *refusal) write(w http.ResponseWriter, r *http.Request) {
	if n.header[0] != "" {
		w.Header().Set(n.header[0], n.header[1])
	}
	for _, c := range n.challenges {
		w.Header().Add("WWW-Authenticate", c)
	}
	if r.ContentLength != 0 { // no endpoint takes a body, so it is not waited for
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
	}
	text(w, n.status, n.text+"\n")
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// admit returns the endpoint of a request that may have it.
func (s *Server) admit(r *http.Request) (endpoint, *refusal) {
	if r.Method == http.MethodConnect || r.URL.IsAbs() {
		return endpoint{}, &refusal{status: http.StatusBadRequest, text: "this is proxyd's admin address; set the proxy to an address under listen"}
	}
	settings := s.o.Settings()
	e, known := s.endpoints[r.URL.Path]
	if name, ok := strings.CutPrefix(r.URL.Path, pprofPath); ok {
		e, known = endpoint{method: http.MethodGet, serve: servePprof}, settings.Pprof && name != "cmdline"
	}
	if !overUnix(r) {
		if no := checkHost(r, settings.Hosts); no != nil {
			return e, no
		}
		if no := checkSite(r); no != nil {
			return e, no
		}
		if no := s.checkClient(r, settings, known && e.open); no != nil {
			return e, no
		}
	}
	switch {
	case !known:
		return e, s.notFound(r.URL.Path)
	case r.Method != e.method && (r.Method != http.MethodHead || e.method != http.MethodGet):
		allow := e.method
		if allow == http.MethodGet {
			allow = "GET, HEAD"
		}
		return e, &refusal{status: http.StatusMethodNotAllowed, text: r.URL.Path + " takes " + allow, header: [2]string{"Allow", allow}}
	case e.method == http.MethodPost && r.Header.Get("X-Proxyd") != "1":
		return e, &refusal{status: http.StatusForbidden, text: `a POST needs the header "X-Proxyd: 1", which a browser's form cannot set; add it`}
	case r.ContentLength != 0:
		return e, &refusal{status: http.StatusRequestEntityTooLarge, text: "nothing here takes a body; put the values in the query"}
	}
	if err := checkQuery(r.URL.RawQuery, e.takes); err != nil {
		return e, &refusal{status: http.StatusBadRequest, text: err.Error()}
	}
	return e, nil
}

// checkQuery refuses a query of which a part would be left out: what is left may
// mean more. takes are the parameters that there are; nil: the endpoint checks them.
func checkQuery(query string, takes []string) error {
	q, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the query cannot be read; write a value's special characters as %XX, as curl --data-urlencode does with --get")
	}
	for name, values := range q {
		switch {
		case takes == nil:
		case !slices.Contains(takes, name):
			return fmt.Errorf("%s is no parameter; there are %s", strconv.Quote(name), strings.Join(takes, ", "))
		case len(values) > 1:
			return fmt.Errorf("%s stands there twice", name)
		}
	}
	return nil
}

// overUnix reports whether a request came over a unix socket: the file's mode
// decides who may connect, and no browser can.
func overUnix(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

// checkHost refuses host names that are not this server's: a foreign page may
// use one to read the answers (DNS rebinding).
func checkHost(r *http.Request, listed []string) *refusal {
	name := hostName(r.Host)
	if _, err := netip.ParseAddr(name); err == nil || name == "localhost" {
		return nil
	}
	for _, l := range listed {
		if name != "" && name == hostName(l) {
			return nil
		}
	}
	return &refusal{status: http.StatusMisdirectedRequest, text: "this Host is not known here; ask by address or localhost, or list the name under admin.hosts"}
}

// hostName returns a Host field without port, brackets, case and trailing dot.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// checkSite refuses what a browser sends for another page. Another port of this
// machine is another page too, though the same site.
func checkSite(r *http.Request) *refusal {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if (site == "" || site == "none" || site == "same-origin") && (origin == "" || origin == "http://"+r.Host) {
		return nil
	}
	return &refusal{status: http.StatusForbidden, text: "this came from another site's page; type the address into the browser's address bar, or use the proxyd command"}
}

// checkClient allows this machine everything, unless it needs the token too, and
// other machines what the settings allow.
func (s *Server) checkClient(r *http.Request, settings config.Admin, open bool) *refusal {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	client := from.Addr().Unmap().WithZone("")
	// What another server passes on may come from anywhere.
	passedOn := slices.ContainsFunc([]string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "Via"}, func(name string) bool { return len(r.Header[name]) > 0 })
	here := err == nil && client.IsLoopback() && !passedOn
	if here && (open || settings.Local != "token") {
		return nil
	}
	if tokenFits(r, settings.Token) || s.challenges.answered(r, settings.Token) {
		return nil
	}
	if open && err == nil && !passedOn {
		for _, p := range settings.Allow {
			if p.Contains(client) {
				return nil
			}
		}
	}
	who := "other machines need"
	if here {
		who = "admin.local is token: this needs"
	}
	switch {
	case open && settings.Token.IsZero():
		return &refusal{status: http.StatusForbidden, text: client.String() + " may not ask this; add it to admin.allow, or ask on the machine itself"}
	case settings.Token.IsZero():
		return &refusal{status: http.StatusForbidden, text: "other machines may not ask this; set admin.token, or ask on the machine itself"}
	}
	no := &refusal{
		status: http.StatusUnauthorized, text: who + ` the token; send "Authorization: Bearer TOKEN" with the value of admin.token`,
		challenges: []string{`Bearer realm="proxyd"`, s.challenges.header()},
	}
	if forPerson(r) {
		no.text += "; a browser asks for it: any user name, the token as the password"
		no.challenges = slices.Insert(no.challenges, 0, `Basic realm="proxyd", charset="UTF-8"`)
	}
	if open {
		no.text += ", or add " + client.String() + " to admin.allow"
	}
	return no
}

// forPerson reports whether a browser asks for something to look at: it may show
// its login window. What a page's script asks for is refused without one.
func forPerson(r *http.Request) bool {
	return r.URL.Path == "/" || strings.Contains(r.Header.Get("Accept"), "text/html")
}

// tokenFits reports whether a request holds the token: as a bearer's, or as the
// password of any user. It compares in constant time.
func tokenFits(r *http.Request, token config.Secret) bool {
	if token.IsZero() {
		return false
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given = strings.TrimSpace(given)
	switch {
	case strings.EqualFold(scheme, "Bearer"):
	case strings.EqualFold(scheme, "Basic"):
		_, password, ok := r.BasicAuth()
		if !ok {
			return false
		}
		given = password
	default:
		return false
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
