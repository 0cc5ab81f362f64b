package catalog

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
