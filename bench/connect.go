//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// connectHTTP opens a tunnel to target by CONNECT.
func connectHTTP(proxy, target string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", proxy, 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(8 * time.Second))
	if _, err := io.WriteString(c, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n"); err != nil {
		c.Close()
		return nil, err
	}
	var b [512]byte
	for n := 0; n < len(b); {
		m, err := c.Read(b[n:])
		if err != nil {
			c.Close()
			return nil, err
		}
		n += m
		if bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
			if status, _ := strconv.Atoi(string(b[9:12])); status != 200 {
				c.Close()
				return nil, fmt.Errorf("answer %.60q", b[:n])
			}
			_ = c.SetDeadline(time.Time{})
			return c, nil
		}
	}
	c.Close()
	return nil, fmt.Errorf("long answer")
}

// connectSOCKS5 opens a tunnel to target by SOCKS5, without authentication.
func connectSOCKS5(proxy, target string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, err
	}
	c, err := net.DialTimeout("tcp", proxy, 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(8 * time.Second))
	ip := to.Addr().As4()
	var reply [10]byte
	for _, step := range []struct {
		say  []byte
		hear int
	}{
		{[]byte{5, 1, 0}, 2},
		{append(append([]byte{5, 1, 0, 1}, ip[:]...), byte(to.Port()>>8), byte(to.Port())), 10},
	} {
		if _, err = c.Write(step.say); err == nil {
			_, err = io.ReadFull(c, reply[:step.hear])
		}
		if err == nil && reply[1] != 0 {
			err = errors.New("refused")
		}
		if err != nil {
			c.Close()
			return nil, err
		}
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}
