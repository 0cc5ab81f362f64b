package demo

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// The opcodes of RFC 6455 that the demo uses.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// maxFrame is the most that a frame may carry, in bytes.
const maxFrame = 1 << 20

// websocket is one end of a websocket connection, as far as the demo needs one:
// whole messages in single frames, without extensions.
type websocket struct {
	io.Closer
	r      *bufio.Reader
	client bool // masks what it sends

	mu sync.Mutex
	w  io.Writer
}

// accept takes a request as a websocket. With an error nothing has been answered.
func accept(w http.ResponseWriter, r *http.Request) (*websocket, error) {
	key := r.Header.Get("Sec-Websocket-Key")
	if key == "" {
		return nil, errors.New("the header Sec-WebSocket-Key is missing")
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	c := &websocket{Closer: conn, r: buffered.Reader, w: conn}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455, section 1.3
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:])) // a connection that has ended shows in the first read
	return c, nil
}

// answer reads until the connection ends, and answers pings and a close.
func (c *websocket) answer() error {
	for {
		op, payload, err := c.read()
		switch {
		case err != nil:
			return err
		case op == opPing:
			err = c.write(opPong, payload)
		case op == opClose:
			return c.write(opClose, payload)
		}
		if err != nil {
			return err
		}
	}
}

// read returns the next frame.
func (c *websocket) read() (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	size := uint64(head[1] & 0x7f)
	switch size {
	case 126:
		var n [2]byte
		_, err = io.ReadFull(c.r, n[:])
		size = uint64(binary.BigEndian.Uint16(n[:]))
	case 127:
		var n [8]byte
		_, err = io.ReadFull(c.r, n[:])
		size = binary.BigEndian.Uint64(n[:])
	}
	var mask [4]byte
	if err == nil && head[1]&0x80 != 0 {
		_, err = io.ReadFull(c.r, mask[:])
	}
	if err != nil {
		return 0, nil, err
	}
	if size > maxFrame {
		return 0, nil, errors.New("a frame is too large")
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return 0, nil, err
	}
	xor(payload, mask)
	return head[0] & 0x0f, payload, nil
}

// write sends one frame. It is safe for concurrent use.
func (c *websocket) write(op byte, payload []byte) error {
	frame := []byte{0x80 | op, 0}
	if len(payload) < 126 {
		frame[1] = byte(len(payload))
	} else {
		frame[1] = 126
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload))) //nolint:gosec // the demo's messages are short, and a control frame has at most 125 bytes
	}
	if !c.client {
		frame = append(frame, payload...)
	} else {
		var mask [4]byte
		_, _ = rand.Read(mask[:]) // never fails
		frame[1] |= 0x80
		frame = append(append(frame, mask[:]...), payload...)
		xor(frame[len(frame)-len(payload):], mask)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.w.Write(frame)
	return err
}

// xor masks a payload, or takes its mask away.
func xor(payload []byte, mask [4]byte) {
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
}
