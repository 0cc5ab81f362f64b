//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"
)

// messageSize is that of a small book update inside TLS.
const messageSize = 250

// serveOrigin runs the origin until standard input ends, and prints its
// addresses: by letter, http.
func serveOrigin() {
	origin, web := listen(), listen()
	go serveEach(origin, serveByLetter)
	go func() {
		body := bytes.Repeat([]byte("x"), 512)
		_ = http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	}()
	fmt.Println(origin.Addr(), web.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// serveUpstream runs the plain upstream until standard input ends, and prints
// its addresses: in clear, with TLS; and the file of the certificate that it
// shows. It is a process of its own, so that its descriptors suffice.
func serveUpstream() {
	up, inTLS := listen(), listen()
	cert, file := certificate()
	go serveEach(up, plainUpstream)
	go serveEach(tls.NewListener(inTLS, &tls.Config{Certificates: []tls.Certificate{cert}}), plainUpstream)
	go func() { // with the process; the pipes that io.Copy splices through are closed by a collection alone
		for range time.Tick(500 * time.Millisecond) {
			runtime.GC()
		}
	}()
	fmt.Println(up.Addr(), inTLS.Addr(), file)
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = os.Remove(file)
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	return l
}

func serveEach(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		go serve(c)
	}
}

// serveByLetter does what the first byte asks: E echo, D flood, T tick for
// every eight bytes that follow (the interval in nanoseconds).
func serveByLetter(c net.Conn) {
	defer c.Close()
	var b [32 << 10]byte
	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return
	}
	switch b[0] {
	case 'E':
		_, _ = c.Write(b[:1])
		for {
			n, err := c.Read(b[:])
			if err != nil {
				return
			}
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	case 'D':
		big := make([]byte, 256<<10)
		for {
			if _, err := c.Write(big); err != nil {
				return
			}
		}
	case 'T':
		if _, err := io.ReadFull(c, b[:8]); err != nil {
			return
		}
		tick := time.NewTicker(time.Duration(binary.BigEndian.Uint64(b[:8])))
		defer tick.Stop()
		go func() { _, _ = c.Read(b[9:10]); c.Close() }()
		var msg [messageSize]byte
		for range tick.C {
			binary.BigEndian.PutUint64(msg[:], uint64(time.Now().UnixNano()))
			if _, err := c.Write(msg[:]); err != nil {
				return
			}
		}
	}
}

// plainUpstream is a CONNECT and absolute-form proxy that does nothing else.
func plainUpstream(c net.Conn) {
	defer c.Close()
	br := bufio.NewReaderSize(c, 4<<10)
	line, err := br.ReadString('\n')
	if err != nil {
		return
	}
	f := strings.Fields(line)
	if len(f) < 3 {
		return
	}
	target, isConnect := f[1], f[0] == "CONNECT"
	if !isConnect {
		target = strings.TrimPrefix(target, "http://")
		target, _, _ = strings.Cut(target, "/")
	}
	if !isConnect {
		o, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer o.Close()
		_, _ = io.WriteString(o, line)
		pipeBoth(c, br, o)
		return
	}
	for {
		h, err := br.ReadString('\n')
		if err != nil {
			return
		}
		if h == "\r\n" {
			break
		}
	}
	o, err := net.Dial("tcp", target)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer o.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	pipeBoth(c, br, o)
}

func pipeBoth(c net.Conn, from *bufio.Reader, o net.Conn) {
	go func() {
		if n := from.Buffered(); n > 0 {
			b, _ := from.Peek(n)
			_, _ = o.Write(b)
		}
		if err := carry(o, c); err != nil {
			_ = o.(*net.TCPConn).SetLinger(0) // no port is left waiting: a run would use all of them up
			o.Close()
			return
		}
		_ = o.(*net.TCPConn).CloseWrite()
	}()
	_ = carry(c, o)
}

// carry is io.Copy that holds no pipe before a MiB has passed: with four
// descriptors more for each tunnel, thousands of idle ones would not fit.
func carry(dst, src net.Conn) error {
	b := make([]byte, 8<<10)
	for n := 0; n < 1<<20; {
		m, err := src.Read(b)
		if m > 0 {
			if _, err := dst.Write(b[:m]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n += m
	}
	_, err := io.Copy(dst, src)
	return err
}

// serveCopy is the obvious relay, for comparison: a goroutine and an io.Copy for
// each direction, behind a CONNECT that is passed on as it came.
func serveCopy(address, upstream string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	serveEach(l, func(c net.Conn) {
		defer c.Close()
		o, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer o.Close()
		go func() { // ends with either connection
			_, _ = io.Copy(o, c)
			_ = o.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(c, o)
	})
}
