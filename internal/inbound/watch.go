package inbound

import (
	"net"
	"time"
)

// watchAfter is how long an attempt may last before it is checked whether the
// client is still there: nearly all are open sooner, and cost no more than a
// timer.
const watchAfter = 20 * time.Millisecond

var longAgo = time.Unix(1, 0)

// watch cancels when a client leaves: an orderly end of its side counts as
// gone, since it is not yet entitled to send anything, and so does a reset. That of
// a redirected client may have sent all that it has to say, so only a reset counts. It
// takes no byte from the socket.
type watch struct {
	tcp    *net.TCPConn
	mayEnd bool // an orderly end does not count
	cancel func()
	timer  *time.Timer
	done   chan struct{}
}

// startWatch begins to watch; stop must follow, without a read in between. The
// read deadline is taken off.
func startWatch(tcp *net.TCPConn, mayEnd bool, cancel func()) *watch {
	w := &watch{tcp: tcp, mayEnd: mayEnd, cancel: cancel}
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
	if left(w.tcp, w.mayEnd) {
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
