//go:build interop

package interop

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// Where names lead, in this network alone.
const (
	liveAddr        = "127.0.0.1" // the exchange, ports 443 and 80
	refusedAddr     = "127.0.0.2" // without a listener
	silentAddr      = "127.0.0.3" // SYNs to port 443 stay without an answer
	unreachableAddr = "192.0.2.1" // no route
	forbiddenAddr   = "127.0.0.4" // the upstreams do not want it
)

// serveNames fills the files that run.sh has laid over /etc: names in the
// hosts file are known to every program, all others to none.
func serveNames(t *testing.T, list []*upstream) {
	t.Helper()
	hosts := []string{"127.0.0.1 localhost", "127.0.0.1 tls-proxy.test", "127.0.0.1 through-dante.test", "127.0.0.1 through-squid.test", "127.0.0.1 failing-over.test"}
	for _, u := range list {
		hosts = append(hosts, u.live+" "+u.rest, u.live+" "+u.ws,
			refusedAddr+" refused."+u.domain, unreachableAddr+" unreachable."+u.domain,
			silentAddr+" silent."+u.domain, forbiddenAddr+" forbidden."+u.domain)
	}
	overlay(t, "hosts", strings.Join(hosts, "\n")+"\n")
	overlay(t, "resolv.conf", "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
	overlay(t, "nsswitch.conf", "hosts: files dns\n")

	answerQueries(t, "127.0.0.1:53", func(query []byte, _ net.Addr) []byte {
		if len(query) < 12 {
			return nil
		}
		query[2], query[3] = query[2]|0x80, 0x83 // a response; recursion available, NXDOMAIN
		return query
	})
}

// answerQueries is a name server for UDP at addr: it sends what answer returns, unless
// that is nil. query is valid until answer returns.
func answerQueries(t *testing.T, addr string, answer func(query []byte, from net.Addr) []byte) {
	t.Helper()
	dns, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() { // ends when dns is closed
		block := make([]byte, 4096)
		for {
			n, from, err := dns.ReadFrom(block)
			if err != nil {
				return
			}
			if a := answer(block[:n], from); a != nil {
				_, _ = dns.WriteTo(a, from)
			}
		}
	})
	t.Cleanup(func() { _ = dns.Close(); ended.Wait() })
}

// overlay writes in place: the file is mounted.
func overlay(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// serveTargets gives the exchange its usual ports, and silentAddr its silence.
func serveTargets(t *testing.T, x *testkit.Exchange, list []*upstream) {
	t.Helper()
	served := map[string]bool{}
	for _, u := range list {
		if !served[u.live] {
			served[u.live] = true
			forward(t, u.live+":443", x.TLS)
			forward(t, u.live+":80", x.HTTP)
		}
	}

	// A full accept queue: the kernel drops further SYNs.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Port: 443, Addr: [4]byte{127, 0, 0, 3}}), syscall.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	for range 8 {
		c, err := net.DialTimeout("tcp", silentAddr+":443", 300*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("a full accept queue still accepts: this kernel cannot play a silent host")
}

// forward carries connections to addr, until the test ends.
func forward(t *testing.T, from, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() { // ends with ln
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends when both sides have, or the exchange stops
				defer func() { _ = c.Close() }()
				s, err := net.Dial("tcp", addr)
				if err != nil {
					return
				}
				defer func() { _ = s.Close() }()
				go func() {
					_, _ = io.Copy(s, c)
					testkit.CloseWrite(s)
				}()
				_, _ = io.Copy(c, s)
			}()
		}
	}()
}
