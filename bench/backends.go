//go:build linux

package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// backends are the addresses of the upstream and the origins behind.
type backends struct{ upstream, second, inTLS, certFile, origin, web, echo string }

// startBackends starts the children, two for each role; stop ends them.
func startBackends() (b backends, stop func(), err error) {
	var words [4][]string
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	for i, role := range []string{"upstream", "origin", "upstream", "origin"} {
		w, end, err := child(role)
		if err != nil {
			stop()
			return b, nil, err
		}
		words[i], stops = w, append(stops, end)
	}
	up, origin := words[0], words[1]
	return backends{
		upstream: up[0], inTLS: up[1], certFile: up[2], origin: origin[0], web: origin[1],
		second: words[2][0], echo: words[3][0],
	}, stop, nil
}

// child starts this program in another role and gives the words that it says first.
func child(role string) (words []string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, role)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() { _ = in.Close(); _ = cmd.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, nil, err
	}
	return strings.Fields(line), stop, nil
}

// certificate returns a certificate for 127.0.0.1, and the file that holds it.
func certificate() (tls.Certificate, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	about := x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &about, &about, &key.PublicKey, key)
	fatal(err)
	f, err := os.CreateTemp("", "bench-*.pem")
	fatal(err)
	fatal(pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	fatal(f.Close())
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, f.Name()
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
