package failure

// Answer is how clients are answered for a class.
type Answer struct {
	Blame      string // client, policy, upstream, target, "target, cannot tell", local
	HTTP       int
	SOCKS5     byte   // RFC 1928 section 6
	Proxy      string // the Proxy-Status error type (RFC 9209 section 2.3)
	RetryAfter bool   // the answer carries Retry-After
}

// answers is the one table that clients of every protocol are answered from.
var answers = map[Class]Answer{
	BadRequest:          {"client", 400, 1, "http_request_error", false},
	Auth:                {"client", 407, 2, "http_request_denied", false},
	Denied:              {"policy", 403, 2, "http_request_denied", false},
	NoUpstream:          {"upstream", 503, 1, "destination_unavailable", true},
	Budget:              {"policy", 503, 1, "connection_limit_reached", true},
	UpstreamDNS:         {"upstream", 502, 1, "dns_error", false},
	UpstreamUnreachable: {"upstream", 502, 1, "destination_ip_unroutable", false},
	UpstreamRefused:     {"upstream", 502, 1, "connection_refused", false},
	UpstreamTLS:         {"upstream", 502, 1, "tls_protocol_error", false},
	UpstreamProtocol:    {"upstream", 502, 1, "http_protocol_error", false},
	UpstreamAuth:        {"upstream", 502, 1, "proxy_configuration_error", false},
	UpstreamDenied:      {"upstream", 502, 1, "http_request_denied", false},
	TargetRefused:       {"target", 502, 5, "connection_refused", false},
	TargetUnreachable:   {"target", 502, 4, "destination_ip_unroutable", false},
	TargetDNS:           {"target", 502, 4, "dns_error", false},
	UpstreamTimeout:     {"upstream", 504, 6, "connection_timeout", false},
	TargetProtocol:      {"target, cannot tell", 502, 1, "http_protocol_error", false},
	TargetTimeout:       {"target, cannot tell", 504, 6, "connection_timeout", false},
	Local:               {"local", 503, 1, "proxy_internal_error", false},
	Draining:            {"policy", 503, 1, "destination_unavailable", true},
	Overload:            {"policy", 503, 1, "connection_limit_reached", true},
}

// AnswerTo returns the answer to a class; an unknown one is an error of this
// program.
func AnswerTo(c Class) Answer {
	if a, ok := answers[c]; ok {
		return a
	}
	return Answer{"local", 503, 1, "proxy_internal_error", false}
}
