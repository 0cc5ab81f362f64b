package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// message is one message without its data.
type message struct {
	Type    string   `json:"type"`
	Version int      `json:"version,omitempty"` // of ready
	Formats []string `json:"formats,omitempty"` // of ready
	Text    string   `json:"text,omitempty"`    // of failed and refused
	Batch   int      `json:"batch,omitempty"`   // counts batches, from 1
	Items   []sizes  `json:"items,omitempty"`   // of batch
}

// sizes say which part of a batch is one item's.
type sizes struct {
	Data  int `json:"data"`
	Conns int `json:"conns"`
}

const (
	frameSize = 12       // the lengths of JSON and data, the number of descriptors, big-endian
	maxJSON   = 1 << 20  // far above what is sent
	maxData   = 64 << 20 // likewise: batchData, or one item
	maxFiles  = 250      // Linux allows 253 in one message (SCM_MAX_FD)
	batchData = 4 << 20  // so that the first of a batch does not wait for the last
)

// wire carries messages over one end of the socket pair.
type wire struct {
	conn      *net.UnixConn
	keepAlive net.KeepAliveConfig // of conns that arrive: Go sets its own on a descriptor that it takes
}

// setTimeout sets the time that all until the next call may take; 0 is without end.
func (w *wire) setTimeout(d time.Duration) {
	var end time.Time
	if d > 0 {
		end = time.Now().Add(d)
	}
	_ = w.conn.SetDeadline(end) // a closed conn says so when it is used
}

// send writes one message. The descriptors go with the frame, so that a reader
// has them before anything that it could fail at. Nil means that every byte is
// in the socket.
func (w *wire) send(m message, data [][]byte, conns []*net.TCPConn) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	size := 0
	for _, d := range data {
		size += len(d)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, frameSize+len(text)), uint32(len(text)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(size))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(conns)))
	if len(conns) == 0 {
		frame = append(frame, text...)
		if _, err := w.conn.Write(frame); err != nil { // one write: a commit is whole or is not
			return err
		}
	} else {
		if err := w.sendFiles(frame, conns); err != nil {
			return err
		}
		data = append([][]byte{text}, data...)
	}
	buffers := net.Buffers(data)
	_, err = buffers.WriteTo(w.conn)
	return err
}

// receive reads one message. An error for which soft says true leaves the wire
// in order: the descriptors were lost, the message was not.
func (w *wire) receive() (m message, data []byte, conns []*net.TCPConn, err error) {
	frame := make([]byte, frameSize)
	conns, lost := w.receiveFiles(frame)
	if lost != nil && !recoverable(lost) {
		return m, nil, nil, lost
	}
	defer func() {
		if err != nil {
			closeConns(conns)
			conns = nil
		}
	}()
	text := binary.BigEndian.Uint32(frame)
	size, files := binary.BigEndian.Uint32(frame[4:]), binary.BigEndian.Uint32(frame[8:])
	if text > maxJSON || size > maxData || files > maxFiles {
		return m, nil, conns, fmt.Errorf("a message of %d and %d bytes with %d descriptors", text, size, files)
	}
	body := make([]byte, text+size)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return m, nil, conns, unexpected(err)
	}
	if err := json.Unmarshal(body[:text], &m); err != nil {
		return m, nil, conns, err
	}
	if lost == nil && int(files) != len(conns) {
		lost = lostFiles{fmt.Errorf("%d of %d descriptors arrived; raise the limit of open files", len(conns), files)}
	}
	return m, body[text:], conns, lost
}

// expect reads one message of a type.
func (w *wire) expect(kind string) (message, []byte, error) {
	m, data, conns, err := w.receive()
	closeConns(conns) // only batches have any
	if err != nil {
		return m, nil, err
	}
	if m.Type != kind {
		return m, nil, fmt.Errorf("the message is %q, not %q", m.Type, kind)
	}
	return m, data, nil
}

// lostFiles is an error that concerns the descriptors of a message alone.
type lostFiles struct{ error }

func recoverable(err error) bool { return errors.As(err, new(lostFiles)) }

// unexpected is an end where a message should go on.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func closeConns(conns []*net.TCPConn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// split cuts a batch's data and conns into its items.
func split(m message, data []byte, conns []*net.TCPConn) ([]Item, error) {
	items := make([]Item, 0, len(m.Items))
	for _, s := range m.Items {
		if s.Data < 0 || s.Data > len(data) || s.Conns < 0 || s.Conns > len(conns) {
			return nil, errors.New("a batch's items are more than the batch")
		}
		items = append(items, Item{data[:s.Data:s.Data], conns[:s.Conns:s.Conns]})
		data, conns = data[s.Data:], conns[s.Conns:]
	}
	if len(data)+len(conns) > 0 {
		return nil, errors.New("a batch is more than its items")
	}
	return items, nil
}
