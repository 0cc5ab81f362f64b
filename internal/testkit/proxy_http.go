package testkit

import (
	"bufio"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
)

// http serves one connection: absolute-form requests one after another, and at
// most one CONNECT.
func (p *Proxy) http(c net.Conn, r *bufio.Reader) {
	for {
		head, err := readHead(r)
		if err != nil {
			return
		}
		all := bufio.NewReader(io.MultiReader(strings.NewReader(head), r))
		req, err := http.ReadRequest(all)
		if err != nil {
			Answer("400 Bad Request", "")(c)
			return
		}
		a := Asked{Protocol: "connect", Method: req.Method, Head: head, Header: req.Header.Clone()}
		if req.Method != http.MethodConnect {
			a.Protocol = "http"
		}
		a.Host, a.Port = splitTarget(req.Host)
		a.User, a.Password, a.HasAuth = basicAuth(req.Header.Get("Proxy-Authorization"))
		p.note(a, c)
		if p.fails(AtGreeting, c, a.Host) || p.fails(AtRequest, c, a.Host) {
			return
		}
		if p.o.User != "" && (a.User != p.o.User || a.Password != p.o.Password) {
			Answer("407 Proxy Authentication Required", "who are you", `Proxy-Authenticate: Basic realm="fake"`)(c)
			return
		}
		if req.Method == http.MethodConnect {
			p.httpConnect(c, all, a)
			return
		}
		if !p.httpForward(c, all, req) {
			return
		}
		r = all
	}
}

func (p *Proxy) httpConnect(c net.Conn, r *bufio.Reader, a Asked) {
	target, err := p.dial(a.Host, a.Port)
	switch {
	case errors.Is(err, errUnknownHost):
		Answer("503 Service Unavailable", "cannot find "+a.Host)(c)
	case err != nil:
		Answer("502 Bad Gateway", "cannot connect to "+a.Host)(c)
	default:
		success := p.o.Success
		if success == "" {
			success = "HTTP/1.1 200 OK\r\n\r\n"
		}
		p.carry(c, target, r, success)
	}
}

// httpForward sends one absolute-form request on in origin form and its answer
// back, and reports whether the connection serves another.
func (p *Proxy) httpForward(c net.Conn, r *bufio.Reader, req *http.Request) bool {
	host, port := splitTarget(req.Host)
	if port == "" {
		port = "80"
	}
	target, err := p.dial(host, port)
	if err != nil {
		Answer("502 Bad Gateway", "cannot connect to "+host)(c)
		return false
	}
	defer p.drop(target)
	req.Header.Del("Proxy-Authorization")
	req.Header.Del("Proxy-Connection")
	sent := make(chan struct{})
	p.wg.Go(func() { // ends when the request is sent, or c or target is closed
		defer close(sent)
		_ = req.Write(target)
	})
	back := bufio.NewReader(target)
	for {
		resp, err := http.ReadResponse(back, req)
		if err != nil {
			return false
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			<-sent
			_ = resp.Write(c)
			early, _ := back.Peek(back.Buffered())
			_, _ = c.Write(early)
			pipe(c, target, r)
			return false
		}
		err = resp.Write(c)
		_ = resp.Body.Close()
		if err != nil || resp.Close || req.Close {
			return false
		}
		if resp.StatusCode >= 200 {
			<-sent
			return true
		}
	}
}

// readHead reads to the blank line.
func readHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return head.String(), err
		}
		if line == "\r\n" || line == "\n" {
			return head.String(), nil
		}
	}
}

// splitTarget splits at the last colon; the brackets of an IPv6 address go.
func splitTarget(s string) (host, port string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return strings.Trim(s, "[]"), ""
	}
	return host, port
}

func basicAuth(field string) (user, password string, ok bool) {
	text, found := strings.CutPrefix(field, "Basic ")
	if !found {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", "", false
	}
	user, password, _ = strings.Cut(string(raw), ":")
	return user, password, true
}
