package catalog

import "errors"

// Kind is what a host or a connection is used for. The zero Kind is unknown.
type Kind uint8

// The kinds. A route is always for HTTP or Websocket; Both stands only in the
// catalogue, for hosts that serve either.
const (
	KindUnknown Kind = iota
	KindHTTP
	KindWebsocket
	KindBoth
)

// Kinds lists the kinds that a route may be for.
var Kinds = [...]Kind{KindHTTP, KindWebsocket}

// String returns the word used in files, logs and metrics; "" if unknown.
func (k Kind) String() string {
	switch k {
	case KindHTTP:
		return "http"
	case KindWebsocket:
		return "websocket"
	case KindBoth:
		return "both"
	default:
		return ""
	}
}

// ParseKind parses http or rest, websocket or ws, and both, in any case.
func ParseKind(s string) (Kind, error) {
	switch lower(s) {
	case "http", "rest":
		return KindHTTP, nil
	case "websocket", "ws":
		return KindWebsocket, nil
	case "both":
		return KindBoth, nil
	default:
		return KindUnknown, errors.New("not a kind: write http, websocket or both")
	}
}
