package health

import (
	"context"
	"crypto/x509"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/upstream"
)

// Verdict is what a probe has found: one of the words or, where the connection
// failed, the class of an failure.Error.
type Verdict = upstream.Word

// The words.
const (
	OK          = upstream.WordOK
	Geoblocked  = upstream.WordGeoblocked
	RateLimited = upstream.WordRateLimited
	Blocked     = upstream.WordBlocked

	// Unknown is no verdict: the exchange answered, but with what says nothing of
	// the upstream, since it has trouble of its own or the address is outdated.
	Unknown Verdict = "unknown"
)

// Method is how far a probe goes.
type Method string

// The methods, as health_check names them.
const (
	TCP      Method = "tcp"      // the upstream accepts (an https one: TLS too)
	Connect  Method = "connect"  // it connects to the target
	Exchange Method = "exchange" // the exchange answers through it
)

// Dial connects to a target through one upstream. Its errors are
// *failure.Error, or the context's.
type Dial func(ctx context.Context, t upstream.Target) (*upstream.Conn, error)

// Ask is what one probe does.
type Ask struct {
	Method    Method
	Target    upstream.Target                 // for Connect and Exchange; Kind decides what is asked for
	URL       string                          // for Exchange: https, wss, http or ws; its host and port are Target's
	UserAgent string                          // for Exchange; "": config.DefaultUserAgent
	Timeout   time.Duration                   // from when the probe begins; 0: 5 s
	Roots     *x509.CertPool                  // trusted certificates; nil: the system's
	Reach     func(ctx context.Context) error // for TCP: connects to the upstream itself; nil: nothing to reach

	keep *[]byte // takes the body of an answer
}

// Result is what one probe has found.
type Result struct {
	Method   Method // how far the probe was to go: one that only connects does not show what the exchange answers
	Verdict  Verdict
	Text     string    // what was found, in words, free of credentials
	Hint     string    // what to do about it; may be ""
	Status   int       // the exchange's HTTP status; 0 without one
	Until    time.Time // not to be probed before, by the exchange's wish; zero: any time
	Unsure   bool      // the verdict is a class, and the exchange may be to blame as well as the upstream
	Doubtful bool      // refused as a client, perhaps, and not as an exit: no verdict while a feed of the exchange lives through it
	Err      error     // why the connection failed, as the Dial returned it; nil if it did not
	Steps    []Step    // those that were made, in order
	Took     time.Duration
}

// BesideFeed returns the result with regard to a feed of the exchange that lives
// through the same upstream: a refusal that may be about the probe alone is then
// no verdict.
func (r Result) BesideFeed(exchange string) Result {
	if r.Doubtful {
		r.Verdict = Unknown
		r.Text += "; a feed of " + exchange + " lives through it all the same"
	}
	return r
}

// Step is a part of a probe.
type Step struct {
	Name string // dns, tcp, proxy, tls, http, upgrade or message
	Took time.Duration
}

// The steps.
const (
	StepDNS     = "dns"     // a name was resolved on this machine
	StepTCP     = "tcp"     // to the upstream, or to the exchange when direct
	StepProxy   = "proxy"   // what the upstream took to connect
	StepTLS     = "tls"     // with the exchange
	StepHTTP    = "http"    // until the answer's head
	StepUpgrade = "upgrade" // until the 101
	StepMessage = "message" // until the first websocket message or pong
)

// defaultTimeout is how long a probe may take, as health_check has it.
const defaultTimeout = 5 * time.Second

// Probe makes one probe. It leaves no connection behind.
func Probe(ctx context.Context, dial Dial, a Ask) Result {
	if a.Timeout <= 0 {
		a.Timeout = defaultTimeout
	}
	start := time.Now()
	probing, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	p := &probe{ask: a, dial: dial}
	r := p.run(probing)
	if ctx.Err() != nil && r.Verdict != OK { // the caller gave up: no fault of the upstream
		r = Result{Verdict: Unknown, Text: "the probe was broken off"}
	}
	r.Method = a.Method
	r.Steps, r.Took = p.steps.list(), time.Since(start)
	return r
}

// probe is one in progress.
type probe struct {
	ask   Ask
	dial  Dial
	steps steps
}

func (p *probe) run(ctx context.Context) Result {
	if p.ask.Method == TCP {
		if err := p.reach(ctx); err != nil {
			return failed(err)
		}
		return Result{Verdict: OK, Text: "accepts"}
	}
	conn, err := p.open(ctx)
	if err != nil {
		return failed(err)
	}
	defer conn.Release()
	defer conn.Conn.Close()
	if p.ask.Method == Connect {
		return Result{Verdict: OK, Text: "connects"}
	}
	return p.askExchange(ctx, conn)
}

// websocket reports whether the probe asks for an upgrade.
func (a Ask) websocket() bool { return a.Target.Kind == catalog.KindWebsocket }
