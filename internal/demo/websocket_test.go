package demo

import (
	"bufio"
	"bytes"
	"net"
	"testing"
	"time"
)

// pair returns two connected ends, the client first.
func pair(t *testing.T) (client, server *websocket) {
	t.Helper()
	a, b := net.Pipe()
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { _ = c.Close() })
	}
	return &websocket{Closer: a, r: bufio.NewReader(a), w: a, client: true}, &websocket{Closer: b, r: bufio.NewReader(b), w: b}
}

func TestFramesArriveAsTheyWereSent(t *testing.T) {
	client, server := pair(t)
	for _, size := range []int{0, 1, 125, 126, 65535} {
		for name, ends := range map[string][2]*websocket{"to the server": {client, server}, "to the client": {server, client}} {
			sent := bytes.Repeat([]byte{'x', 0, 0xff}, size/3+1)[:size]
			failed := make(chan error, 1)
			go func() { failed <- ends[0].write(opText, bytes.Clone(sent)) }() // ends with the read, or the deadline
			op, got, err := ends[1].read()
			if err != nil || op != opText || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes %s: got %d bytes, opcode %d, %v", size, name, len(got), op, err)
			}
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPingAndCloseAreAnswered(t *testing.T) {
	client, server := pair(t)
	ended := make(chan error, 1)
	go func() { ended <- server.answer() }() // ends with the close, or the deadline
	for _, c := range []struct{ sent, want byte }{{opText, 0}, {opPing, opPong}, {opClose, opClose}} {
		if err := client.write(c.sent, []byte("ab")); err != nil {
			t.Fatal(err)
		}
		if c.want == 0 {
			continue
		}
		if op, got, err := client.read(); err != nil || op != c.want || string(got) != "ab" {
			t.Errorf("opcode %d: got opcode %d, %q, %v; want opcode %d", c.sent, op, got, err, c.want)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFrameThatIsTooLargeIsAnError(t *testing.T) {
	client, server := pair(t)
	go func() { _, _ = client.w.Write([]byte{0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0}) }() // ends with the read, or the deadline
	if _, _, err := server.read(); err == nil {
		t.Error("no error")
	}
}
