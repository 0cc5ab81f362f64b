//go:build !unix

package handover

import "net"

// Start says that this system has no way.
func (u *Upgrader) Start(StartOptions) (*Child, error) { return nil, ErrUnsupported }

// Inherited gives nothing: nobody hands anything over here.
func Inherited(net.KeepAliveConfig) (*Parent, error) { return nil, nil } //nolint:nilnil // no parent is no fault

// Activated gives nothing: there is no systemd here.
func Activated(net.KeepAliveConfig) (*Listeners, error) { return nil, nil } //nolint:nilnil // none is no fault

func keepFile([]Listener, bool) {}

func (w *wire) sendFiles([]byte, []*net.TCPConn) error { return ErrUnsupported }

func (w *wire) receiveFiles([]byte) ([]*net.TCPConn, error) { return nil, ErrUnsupported }
