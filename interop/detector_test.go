//go:build interop

package interop

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// detector stands behind every name that this network knows: whoever looks one up, or
// connects, has gone past proxyd.
type detector struct {
	mu               sync.Mutex
	leaks            []string
	first, connected time.Time // of those leaks: the first of all, and the first connection
	own              int       // how often settle has been seen
}

const (
	detectorAddr = "127.0.0.66"
	settleAddr   = "127.0.0.67" // where settle comes from
)

var detectorPorts = []string{"80", "443", "9443"}

func (d *detector) leak(connected bool, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leaks = append(d.leaks, text)
	if d.first.IsZero() {
		d.first = time.Now()
	}
	if connected && d.connected.IsZero() {
		d.connected = time.Now()
	}
}

// taken returns the leaks so far, and forgets them. What came before it is in them,
// even if the detector had not come to it yet.
func (d *detector) taken(t *testing.T) (leaks []string) {
	t.Helper()
	d.settle(t)
	d.mu.Lock()
	defer d.mu.Unlock()
	leaks, d.leaks, d.first, d.connected = d.leaks, nil, time.Time{}, time.Time{}
	return leaks
}

// settle comes to each of the detector's sockets itself, and waits until it is seen:
// all that came before has been seen then.
func (d *detector) settle(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	d.own = 0
	d.mu.Unlock()
	from := net.ParseIP(settleAddr)
	c, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: from}}).Dial("udp", "127.0.0.1:53")
	if err == nil {
		_, err = c.Write([]byte("settle"))
		_ = c.Close()
	}
	for _, port := range detectorPorts {
		tcp, e := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", net.JoinHostPort(detectorAddr, port))
		if e == nil {
			_ = tcp.Close()
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, cellTime, "the detector has seen all", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.own == 1+len(detectorPorts)
	})
}

// settled reports whether something comes from settle, and counts it.
func (d *detector) settled(from net.Addr) bool {
	host, _, _ := net.SplitHostPort(from.String())
	if host != settleAddr {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own++
	return true
}

// detectNames makes programs ask the detector for every name.
func detectNames(t *testing.T) {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	overlay(t, "hosts", "127.0.0.1 localhost "+host+"\n")
	overlay(t, "resolv.conf", "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
	overlay(t, "nsswitch.conf", "hosts: files dns\n")
}

// enough reports whether there are leaks, and no worse ones are to be waited for.
func (d *detector) enough() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.connected.IsZero() && time.Since(d.connected) > time.Second || !d.first.IsZero() && time.Since(d.first) > leakTime
}

// newDetector answers every name with its own address, and listens there.
func newDetector(t *testing.T) *detector {
	t.Helper()
	d := &detector{}
	answerQueries(t, "127.0.0.1:53", func(query []byte, from net.Addr) []byte {
		if d.settled(from) {
			return nil
		}
		name, answer := answerTo(query)
		d.leak(false, "looked up "+name)
		return answer
	})
	var ended sync.WaitGroup
	t.Cleanup(ended.Wait) // the listeners are closed before
	for _, port := range detectorPorts {
		ln, err := net.Listen("tcp", detectorAddr+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		ended.Go(func() { // ends when ln is closed
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				if !d.settled(c.RemoteAddr()) {
					d.leak(true, "connected to port "+port)
				}
				_ = c.Close()
			}
		})
	}
	return d
}

// answerTo returns the name that a DNS question asks for, and an answer: for A that
// of the detector, for all else none.
func answerTo(question []byte) (name string, answer []byte) {
	if len(question) < 17 {
		return "?", nil
	}
	at := 12
	for at < len(question)-5 && question[at] != 0 {
		end := min(at+1+int(question[at]), len(question)-5)
		name += string(question[at+1:end]) + "."
		at = end
	}
	answer = append(append([]byte{}, question[:2]...), 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	answer = append(answer, question[12:at+5]...)
	if binary.BigEndian.Uint16(question[at+1:]) == 1 {
		answer[7] = 1
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 66)
	}
	return name, answer
}
