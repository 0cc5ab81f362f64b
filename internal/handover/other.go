//go:build !unix

package handover

import "net"

// Start returns ErrUnsupported.
func (u *Upgrader) Start(StartOptions) (*Child, error) { return nil, ErrUnsupported }

// Inherited returns nothing: there are no upgrades here.
func Inherited(net.KeepAliveConfig) (*Parent, error) { return nil, nil } //nolint:nilnil // no parent is no error

// Activated returns nothing: there is no systemd here.
func Activated(net.KeepAliveConfig) (*Listeners, error) { return nil, nil } //nolint:nilnil // none is no error

func keepFile([]Listener, bool) {}

func (w *wire) sendFiles([]byte, []*net.TCPConn) error { return ErrUnsupported }

func (w *wire) receiveFiles([]byte) ([]*net.TCPConn, error) { return nil, ErrUnsupported }
