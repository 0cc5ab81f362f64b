package health

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 has it so
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/printable"
)

// How long a feed may be silent after the upgrade. Most greet or answer a ping
// within a round trip, and those that do neither are fine too. One that the
// address has subscribed to has to send: an address that the exchange has left
// behind may still be open and answer pings.
const (
	messageWait = 2 * time.Second
	feedWait    = 4 * time.Second
	feedMargin  = 100 * time.Millisecond // before the probe's own end, so that the silence is found and not cut off
)

// subscribes reports whether an address names the streams that it wants, as
// those of Binance do: /ws/btcusdt@aggTrade, /stream?streams=btcusdt@trade.
func subscribes(u *url.URL) bool {
	return strings.Contains(u.Path, "@") || strings.Contains(u.Path, "/ws/!") || u.Query().Has("streams")
}

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(b[:])
}

// acceptFor returns the Sec-WebSocket-Accept of a key (RFC 6455 section 4.2.2).
func acceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// frame returns one as clients send it, with the payload masked.
func frame(op byte, payload string) []byte {
	var mask [4]byte
	_, _ = rand.Read(mask[:])
	b := append([]byte{0x80 | op, 0x80 | byte(len(payload))}, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// firstMessage asks for a pong and waits for that or a message, whichever the
// feed sends first. The upgrade alone is a success, unless the address has
// subscribed to something: then only a message is.
func (p *probe) firstMessage(ctx context.Context, conn net.Conn, r *bufio.Reader, subscribed bool) Result {
	start := time.Now()
	until := start.Add(messageWait)
	if subscribed {
		until = start.Add(feedWait)
		if end, ok := ctx.Deadline(); ok && end.Add(-feedMargin).Before(until) {
			until = end.Add(-feedMargin)
		}
	}
	_ = conn.SetReadDeadline(until)
	if ctx.Err() != nil { // its deadline may just have been overwritten
		return Result{Verdict: OK, Status: 101, Text: "HTTP 101"}
	}
	_, _ = conn.Write(frame(opPing, "proxyd")) // a failure shows in what is read
	op, payload, err := readFrame(r)
	for subscribed && err == nil && (op == opPong || op == opPing) {
		op, payload, err = readFrame(r)
	}
	defer func() { _, _ = conn.Write(frame(opClose, "\x03\xe8")) }() // 1000: normal
	switch {
	case err != nil && isTimeout(err) && subscribed:
		return Result{
			Verdict: Unknown, Status: 101, Text: "HTTP 101, but no message within " + printable.Seconds(time.Since(start)) + ", though the address subscribes to some",
			Hint: "the probe's address may be outdated: set another one as exchanges.NAME.probe",
		}
	case err != nil && isTimeout(err):
		return Result{Verdict: OK, Status: 101, Text: "HTTP 101; no message and no pong within " + printable.Seconds(time.Since(start))}
	case err != nil:
		return Result{Verdict: Unknown, Status: 101, Text: "HTTP 101, then closed before any message"}
	case op == opClose:
		return closed(payload)
	}
	p.steps.since(StepMessage, start)
	what := "a message"
	if op == opPong {
		what = "a pong"
	}
	return Result{Verdict: OK, Status: 101, Text: "HTTP 101; " + what}
}

// closed judges a close frame: by its words, as a refused upgrade.
func closed(payload []byte) Result {
	why := ""
	if len(payload) >= 2 {
		why = " (" + strconv.Itoa(int(binary.BigEndian.Uint16(payload)))
		if text := clean(string(payload[2:]), 80); text != "" {
			why += ": " + text
		}
		why += ")"
		if r := read(403, nil, payload[2:], time.Now()); r.Verdict != Blocked {
			r.Status, r.Text = 101, "HTTP 101, then closed"+why
			return r
		}
	}
	return Result{Verdict: Unknown, Status: 101, Text: "HTTP 101, then closed" + why}
}

// readFrame reads one frame's head, and the payload of a control frame.
func readFrame(r *bufio.Reader) (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	op = head[0] & 0x0f
	switch op {
	case opContinuation, opText, opBinary, opPing, opPong, opClose:
	default:
		return 0, nil, errNotHTTP
	}
	if op < opClose {
		return op, nil, nil
	}
	payload = make([]byte, head[1]&0x7f)
	if len(payload) > 125 {
		return 0, nil, errNotHTTP
	}
	_, err = io.ReadFull(r, payload)
	return op, payload, err
}
