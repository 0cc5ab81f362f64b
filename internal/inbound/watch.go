package inbound

import (
	"net"
	"time"
)

// watchAfter is how long a way may be in the making before anybody looks
// whether the client is still there: nearly all are open sooner, and pay no
// more than a timer.
const watchAfter = 20 * time.Millisecond

var longAgo = time.Unix(1, 0)

// watch cancels when a client leaves: an orderly end of its side counts as
// gone, since it is not yet entitled to send anything, and so does a reset. It
// takes no byte from the socket.
type watch struct {
	tcp    *net.TCPConn
	cancel func()
	timer  *time.Timer
	done   chan struct{}
}

// startWatch begins to watch; stop must follow. Nobody may read meanwhile. The
// read deadline is taken off.
func startWatch(tcp *net.TCPConn, cancel func()) *watch {
	w := &watch{tcp: tcp, cancel: cancel}
	if tcp == nil {
		return w
	}
	tcp.SetReadDeadline(time.Time{})
	w.done = make(chan struct{})
	w.timer = time.AfterFunc(watchAfter, w.run) // ended and waited for by stop
	return w
}

func (w *watch) run() {
	defer close(w.done)
	if left(w.tcp) {
		w.cancel()
	}
}

// stop ends the watch. The read deadline is off afterwards.
func (w *watch) stop() {
	if w.timer == nil || w.timer.Stop() {
		return
	}
	w.tcp.SetReadDeadline(longAgo)
	<-w.done
	w.tcp.SetReadDeadline(time.Time{})
}
