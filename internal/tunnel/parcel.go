package tunnel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"proxyd/internal/relay"
)

// Format names the encoding of a Parcel's Data. A process that does
// not know the name must not be sent any: change it with every change of header
// that an older reader would misread.
const Format = "tunnel/1"

// header is the first part of a Parcel's Data, after its length in four bytes
// (big-endian); the bytes read and not yet written follow, up before down: with
// hundreds of KiB of them, JSON would be most of the pause.
type header struct {
	Opening    Opening
	Up, Down   half
	Idle       time.Duration `json:",omitempty"`
	HalfClose  time.Duration `json:",omitempty"`
	Stall      time.Duration `json:",omitempty"`
	StallBytes int64         `json:",omitempty"`
	Buffer     int           `json:",omitempty"`
}

type half struct {
	Ended bool  `json:",omitempty"`
	Count int64 `json:",omitempty"`
	Rest  int   `json:",omitempty"` // its length
}

// pack encodes a frozen tunnel. It keeps the limits that it was opened
// with; their clocks start anew where it goes on.
func (f frozen) pack() (Parcel, error) {
	client, ok1 := f.state.Client.(*net.TCPConn)
	server, ok2 := f.state.Server.(*net.TCPConn)
	if !ok1 || !ok2 {
		return Parcel{}, relay.ErrCannotFreeze
	}
	s, o := f.state, f.state.Options
	head, err := json.Marshal(header{
		Opening: f.tunnel.record,
		Up:      half{s.Up.Ended, s.Up.Count, len(s.Up.Rest)},
		Down:    half{s.Down.Ended, s.Down.Count, len(s.Down.Rest)},
		Idle:    o.Idle, HalfClose: o.HalfClose, Stall: o.Stall, StallBytes: o.StallBytes, Buffer: o.Buffer,
	})
	if err != nil {
		return Parcel{}, err
	}
	data := make([]byte, 0, 4+len(head)+len(s.Up.Rest)+len(s.Down.Rest))
	data = binary.BigEndian.AppendUint32(data, uint32(len(head))) //nolint:gosec // a few hundred bytes
	data = append(data, head...)
	data = append(data, s.Up.Rest...)
	data = append(data, s.Down.Rest...)
	return Parcel{data, []*net.TCPConn{client, server}}, nil
}

// Unpack reads a tunnel that another process has sent. The conns are the
// result's then; after an error they are still the caller's.
func Unpack(p Parcel) (*Arrived, error) {
	if len(p.Conns) != 2 {
		return nil, fmt.Errorf("a tunnel with %d sockets", len(p.Conns))
	}
	if len(p.Data) < 4 {
		return nil, errCut
	}
	size, rest := binary.BigEndian.Uint32(p.Data), p.Data[4:]
	if uint64(size) > uint64(len(rest)) {
		return nil, errCut
	}
	var h header
	if err := json.Unmarshal(rest[:size], &h); err != nil {
		return nil, fmt.Errorf("a tunnel's description: %w", err)
	}
	rest = rest[size:]
	if h.Up.Rest < 0 || h.Down.Rest < 0 || h.Up.Rest > len(rest) || h.Down.Rest != len(rest)-h.Up.Rest {
		return nil, errCut
	}
	up, down := bytes.Clone(rest[:h.Up.Rest]), bytes.Clone(rest[h.Up.Rest:]) // Data may be part of a message of many tunnels
	return &Arrived{h.Opening, relay.State{
		Client: p.Conns[0], Server: p.Conns[1],
		Up:      relay.Half{Ended: h.Up.Ended, Count: h.Up.Count, Rest: up},
		Down:    relay.Half{Ended: h.Down.Ended, Count: h.Down.Count, Rest: down},
		Options: relay.Options{Idle: h.Idle, HalfClose: h.HalfClose, Stall: h.Stall, StallBytes: h.StallBytes, Buffer: h.Buffer},
	}}, nil
}

var errCut = errors.New("a tunnel's description is cut off")
