package isolate

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"proxyd/internal/target"
)

const (
	answerTTL = 1               // seconds: a client that keeps an answer asks again soon, and gets the same one
	dnsTime   = 5 * time.Second // for one message over TCP, a query or an answer
)

// Resolver answers the name queries of a namespace. It asks no other server: a name
// gets an address of Names, and its connection is routed by the name.
type Resolver struct {
	names  *Names
	search func() search // of the command's resolv.conf; nil: there is none
}

// NewResolver returns a Resolver that takes its addresses from a table.
func NewResolver(n *Names) *Resolver { return &Resolver{names: n} }

// Serve answers on the sockets until ctx ends, and closes them.
func (r *Resolver) Serve(ctx context.Context, udp []net.PacketConn, tcp []net.Listener) {
	var servers []*dns.Server
	for _, c := range udp {
		servers = append(servers, &dns.Server{PacketConn: c})
	}
	for _, l := range tcp {
		servers = append(servers, &dns.Server{Listener: l, ReadTimeout: dnsTime, WriteTimeout: dnsTime})
	}
	var done sync.WaitGroup
	for _, s := range servers {
		s.Handler = r
		// Started is called before the first query is read: only then can it be shut down.
		started := make(chan struct{})
		s.NotifyStartedFunc = sync.OnceFunc(func() { close(started) })
		done.Go(func() { // ends with Shutdown below
			_ = s.ActivateAndServe()
			s.NotifyStartedFunc() // it may have failed at once
		})
		<-started
	}
	<-ctx.Done()
	for _, s := range servers {
		_ = s.Shutdown() // closes its socket
	}
	done.Wait()
}

// ServeDNS answers one query.
func (r *Resolver) ServeDNS(w dns.ResponseWriter, query *dns.Msg) { _ = w.WriteMsg(r.answer(query)) }

// answer returns the answer to a query.
func (r *Resolver) answer(query *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(query)
	m.RecursionAvailable = true // without it an empty answer counts as a referral
	if opt := query.IsEdns0(); opt != nil {
		m.SetEdns0(opt.UDPSize(), false)
	}
	if query.Opcode != dns.OpcodeQuery || len(query.Question) != 1 {
		m.Rcode = dns.RcodeNotImplemented
		return m
	}
	q := query.Question[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	switch {
	case name == "localhost" || strings.HasSuffix(name, ".localhost"): // RFC 6761
		r.local(m, q)
	case !resolvable(name) || r.appended(name):
		m.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA && q.Qclass == dns.ClassINET:
		a, err := r.names.Addr(name)
		if err != nil {
			m.Rcode = dns.RcodeServerFailure
			return m
		}
		m.Answer = append(m.Answer, &dns.A{Hdr: header(q), A: a.AsSlice()})
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, &dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: answerTTL},
			Ns: "proxyd.invalid.", Mbox: "proxyd.invalid.", Serial: 1, Refresh: answerTTL, Retry: answerTTL, Expire: answerTTL, Minttl: answerTTL})
	}
	return m
}

// local answers for this machine's own name.
func (r *Resolver) local(m *dns.Msg, q dns.Question) {
	switch q.Qtype {
	case dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: header(q), A: net.IPv4(127, 0, 0, 1)})
	case dns.TypeAAAA:
		m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(q), AAAA: net.IPv6loopback})
	}
}

func header(q dns.Question) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass, Ttl: answerTTL}
}

// resolvable reports whether a name can be a target: of two labels at least, since a
// single one is a search's or this machine's; and none of the tree of reverse names, or
// of the one that has no names (RFC 6761).
func resolvable(name string) bool {
	if !strings.Contains(name, ".") || strings.HasSuffix(name, ".arpa") || strings.HasSuffix(name, ".invalid") {
		return false
	}
	h, err := target.ParseHost(name)
	return err == nil && !h.IsIP()
}
