package health

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Bans as exchanges give them: Binance's 418 lasts two minutes to three days,
// Bybit's 403 ten minutes or more, most windows of a 429 are a minute.
const (
	pause429   = time.Minute
	pause418   = 2 * time.Minute
	pauseBybit = 10 * time.Minute
	longestBan = 72 * time.Hour
)

// pages are what exchanges and their guards say when they reject a client,
// in lower case. The first that stands in the answer decides. Statuses do not:
// Bybit answers 403 for a region as for a ban, KuCoin a 200 at times.
var pages = []struct {
	phrase  string
	verdict Verdict
	means   string
	in2xx   bool          // is looked for in a success too: too special to stand there by accident
	pause   time.Duration // of a rate limit without a Retry-After
}{
	{"access too frequent", RateLimited, "too many requests from this exit (Bybit)", false, pauseBybit},
	{"error code: 1015", RateLimited, "too many requests from this exit (Cloudflare 1015)", false, pauseBybit},
	{"you are being rate limited", RateLimited, "too many requests from this exit (Cloudflare 1015)", false, pauseBybit},

	{"service unavailable from a restricted location", Geoblocked, "not served in the exit's region (Binance)", true, 0},
	{"block access from your country", Geoblocked, "not served in the exit's country (CloudFront)", false, 0},
	{"banned the country or region", Geoblocked, "not served in the exit's country (Cloudflare 1009)", false, 0},
	{"error code: 1009", Geoblocked, "not served in the exit's country (Cloudflare 1009)", false, 0},
	{"from a non-restricted country/region", Geoblocked, "not served in the exit's region (KuCoin)", true, 0},
	{`"code":"400302"`, Geoblocked, "not served in the exit's region (KuCoin)", true, 0},
	{"location we cannot provide service", Geoblocked, "not served in the exit's region (Poloniex)", true, 0},
	{"geofencing is applied", Geoblocked, "not served in the exit's region (Coinbase)", false, 0},
	{"not available in your country", Geoblocked, "not served in the exit's country", false, 0},
	{"not available in your region", Geoblocked, "not served in the exit's region", false, 0},
	{"unavailable in your country", Geoblocked, "not served in the exit's country", false, 0},
	{"unavailable in your region", Geoblocked, "not served in the exit's region", false, 0},
	{"not supported in your country", Geoblocked, "not served in the exit's country", false, 0},
	{"not supported in your region", Geoblocked, "not served in the exit's region", false, 0},
	{"restricted jurisdiction", Geoblocked, "not served in the exit's region", false, 0},
	{"unavailable for legal reasons", Geoblocked, "not served in the exit's region", false, 0},

	{"error code: 1005", Blocked, "the exit's network is banned (Cloudflare 1005)", false, 0},
	{"banned the autonomous system", Blocked, "the exit's network is banned (Cloudflare 1005)", false, 0},
	{"error code: 1006", Blocked, "the exit's address is banned (Cloudflare 1006)", false, 0},
	{"has banned your ip address", Blocked, "the exit's address is banned (Cloudflare 1006)", false, 0},
	{"error code: 1010", Blocked, "the probe is taken for a bot (Cloudflare 1010)", false, 0},
	{"error code: 1020", Blocked, "a firewall rule turns the exit away (Cloudflare 1020)", false, 0},
	{"sorry, you have been blocked", Blocked, "a firewall turns the exit away (Cloudflare)", false, 0},
	{"used cloudflare to restrict access", Blocked, "a firewall turns the exit away (Cloudflare)", false, 0},
	{"request blocked", Blocked, "a firewall turns the exit away", false, 0},
}

// read judges an exchange's answer by status and body; now is when it came.
func read(status int, h http.Header, body []byte, now time.Time) Result {
	r := Result{Status: status}
	success := status == http.StatusSwitchingProtocols || status/100 == 2
	text := strings.ToLower(string(body))
	says := "HTTP " + strconv.Itoa(status)
	for _, p := range pages {
		if (success && !p.in2xx) || !strings.Contains(text, p.phrase) {
			continue
		}
		if status == http.StatusTooManyRequests || status == http.StatusTeapot {
			break // the status says more: guards show one page for all they refuse
		}
		r.Verdict, r.Text = p.verdict, says+": "+p.means
		r.Doubtful = p.verdict == Blocked && !strings.HasPrefix(p.means, "the exit's ")
		if p.verdict == RateLimited {
			r.Until = now.Add(pause(h, body, now, p.pause))
		}
		return r
	}
	r.Verdict, r.Text = Unknown, says+excerpt(h, body)
	switch {
	case success:
		r.Verdict, r.Text = OK, says
	case status == http.StatusUnavailableForLegalReasons:
		r.Verdict = Geoblocked
	case status == http.StatusTooManyRequests:
		r.Verdict, r.Until = RateLimited, now.Add(pause(h, body, now, pause429))
	case status == http.StatusTeapot:
		r.Verdict, r.Until = RateLimited, now.Add(pause(h, body, now, pause418))
	case status == http.StatusForbidden:
		r.Verdict, r.Doubtful = Blocked, true
	case status/100 == 5:
		r.Hint = "the exchange has trouble of its own; that is not the upstream's"
		if h.Get("Retry-After") != "" {
			r.Until = now.Add(pause(h, nil, now, 0))
		}
	default:
		r.Hint = "the probe's address may be outdated: set another one as exchanges.NAME.probe"
	}
	return r
}

// untilMS finds the end of a ban as Binance gives it, in milliseconds.
var untilMS = regexp.MustCompile(`banned until (\d{13})\b`)

// pause returns how long the exchange wants no requests: its Retry-After in
// seconds or as a date (RFC 9110 section 10.2.3), else what its text says, else
// otherwise; at most longestBan.
func pause(h http.Header, body []byte, now time.Time, otherwise time.Duration) time.Duration {
	d := otherwise
	value := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(value, 10, 63); err == nil {
		d = longestBan
		if n < uint64(longestBan/time.Second) {
			d = time.Duration(n) * time.Second //nolint:gosec // bounded just above
		}
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	} else if m := untilMS.FindSubmatch(body); m != nil {
		ms, _ := strconv.ParseInt(string(m[1]), 10, 64) // 13 digits
		d = time.UnixMilli(ms).Sub(now)
	}
	return min(max(d, time.Second), longestBan)
}
