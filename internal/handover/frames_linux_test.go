package handover

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"proxyd/internal/testkit"
)

// open opens tunnel i and gives it its kind: of 50, one ends its client's side
// early, one its server's, one is full upwards and one downwards.
func (r *run) open(i int) {
	r.t.Helper()
	client, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	p := &pipe{i: i, client: client.(*net.TCPConn)}
	r.t.Cleanup(func() { _ = client.Close() })
	r.frame(p.client, p, &p.up, false)
	server, err := r.server.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	p.server = server.(*net.TCPConn)
	r.t.Cleanup(func() { _ = server.Close() })
	switch i % 50 {
	case 0:
		r.frame(p.client, p, &p.up, true)
	case 1:
		r.frame(p.server, p, &p.down, true)
	case 2:
		p.up.flood = i < 200
	case 3:
		p.down.flood = i < 200
	}
	r.pipes = append(r.pipes, p)
}

// frame sends one frame, and perhaps the end behind it.
func (r *run) frame(c *net.TCPConn, p *pipe, s *stream, last bool) {
	if s.closed || s.flood {
		return
	}
	b := frameOf(p.i, s.next)
	_ = c.SetWriteDeadline(time.Now().Add(testkit.Patience))
	n, err := c.Write(b)
	s.next++
	s.sent.Add(int64(n))
	if err == nil && last {
		s.closed = true
		err = c.CloseWrite()
	}
	if err != nil {
		r.t.Errorf("tunnel %d: sending frame %d: %v", p.i, s.next, err)
		s.closed = true
	}
}

func frameOf(tunnel int, n uint32) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, frameBytes), uint32(tunnel))
	b = binary.BigEndian.AppendUint32(b, n)
	return binary.BigEndian.AppendUint64(b, uint64(time.Now().UnixNano()))
}

// start begins the traffic.
func (r *run) start() {
	for _, p := range r.pipes {
		for _, d := range []struct {
			from, to *net.TCPConn
			s        *stream
		}{{p.client, p.server, &p.up}, {p.server, p.client, &p.down}} {
			if d.s.flood {
				_, _ = d.from.SetWriteBuffer(64<<10), d.to.SetReadBuffer(64<<10)
				r.writers.Go(func() { r.fill(d.from, p, d.s) }) // ends with end
				continue
			}
			r.works.Go(func() { r.read(d.to, p, d.s) }) // ends with the stream
		}
	}
	const writers = 10
	for w := range writers {
		r.writers.Go(func() { // ends with end
			for {
				for i := w; i < len(r.pipes); i += writers {
					r.frame(r.pipes[i].client, r.pipes[i], &r.pipes[i].up, false)
					r.frame(r.pipes[i].server, r.pipes[i], &r.pipes[i].down, false)
					if i%(5*writers) == w { // spread over the time between two frames
						select {
						case <-time.After(framesEvery * 5 * writers / time.Duration(len(r.pipes))):
						case <-r.end:
							return
						}
					}
				}
			}
		})
	}
}

// fill sends frames as fast as they are taken, until the end; then reads begin.
func (r *run) fill(c *net.TCPConn, p *pipe, s *stream) {
	for over := false; !over; {
		select {
		case <-r.end:
			over = true
		default:
		}
		var b []byte
		for range 1024 {
			b = append(b, frameOf(p.i, s.next)...)
			s.next++
		}
		for len(b) > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			n, err := c.Write(b)
			s.sent.Add(int64(n))
			b = b[n:]
			if err != nil && !isTimeout(err) {
				r.t.Errorf("tunnel %d, flood: %v", p.i, err)
				return
			}
		}
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// read takes frames to the end of the stream, and each must be the next one.
func (r *run) read(c *net.TCPConn, p *pipe, s *stream) {
	b, size := make([]byte, frameBytes), 64*frameBytes
	if s.flood {
		size = 64 << 10
	}
	buffered := bufio.NewReaderSize(c, size)
	for n := uint32(0); ; n++ {
		got, err := io.ReadFull(buffered, b)
		s.got.Add(int64(got))
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil && (binary.BigEndian.Uint32(b) != uint32(p.i) || binary.BigEndian.Uint32(b[4:]) != n) {
			err = fmt.Errorf("the frame is %d of %d", binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b))
		}
		if err != nil {
			s.err = fmt.Errorf("tunnel %d, waiting for frame %d: %w", p.i, n, err)
			return
		}
		took := time.Duration(time.Now().UnixNano() - int64(binary.BigEndian.Uint64(b[8:])))
		s.slowest = max(s.slowest, took)
	}
}

// stop ends the traffic: the floods are read at last, and every side ends.
func (r *run) stop() {
	close(r.end)
	for _, p := range r.pipes {
		if p.up.flood {
			r.works.Go(func() { r.read(p.server, p, &p.up) })
		}
		if p.down.flood {
			r.works.Go(func() { r.read(p.client, p, &p.down) })
		}
	}
	r.writers.Wait()
	for _, p := range r.pipes {
		if !p.up.closed {
			_ = p.client.CloseWrite()
		}
		if !p.down.closed {
			_ = p.server.CloseWrite()
		}
		_ = p.client.SetReadDeadline(time.Now().Add(3 * testkit.Patience))
		_ = p.server.SetReadDeadline(time.Now().Add(3 * testkit.Patience))
	}
}

// check looks at every stream and at every record.
func (r *run) check() {
	r.t.Helper()
	ended := map[string]line{}
	bytes := map[[2]int64]int{}
	for range r.pipes {
		l := r.wait("all tunnels end", func(l line) bool { _, seen := ended[l.ID]; return l.Event == "ended" && !seen })
		if l.PID != r.pids[len(r.pids)-1] || l.Text != "eof" {
			r.t.Errorf("ended in a process before the last, or not in order: %+v", l)
		}
		ended[l.ID] = l
		bytes[[2]int64{l.Up, l.Down}]++
	}
	r.works.Wait()
	for _, p := range r.pipes {
		for _, s := range []*stream{&p.up, &p.down} {
			if s.err != nil || s.sent.Load() != s.got.Load() {
				r.t.Errorf("tunnel %d: %d bytes sent, %d read, %v", p.i, s.sent.Load(), s.got.Load(), s.err)
			}
		}
		key := [2]int64{p.up.sent.Load(), p.down.sent.Load()}
		if bytes[key]--; bytes[key] < 0 {
			r.t.Errorf("tunnel %d: no record says %d bytes up and %d down", p.i, key[0], key[1])
		}
	}
}

// report logs how long tunnels stood still: from when their batch began to be
// frozen until the whole of it went on in the next process; and how long frames took.
func (r *run) report() {
	var pauses, slowest []time.Duration
	for n, old := range r.pids[:upgrades] {
		var froze, resumed []time.Time
		for _, l := range r.received {
			switch {
			case l.PID == old && (l.Event == "moving" || l.Event == "sent"):
				froze = append(froze, l.At)
			case l.PID == r.pids[n+1] && l.Event == "resumed":
				resumed = append(resumed, l.At)
			case l.PID == old && l.Event == "moved":
				r.t.Logf("moved %d in %v; the longest stood still for %v here", l.Count, l.At.Sub(froze[0]), l.Longest)
			}
		}
		for i := range resumed {
			pauses = append(pauses, resumed[i].Sub(froze[i]))
		}
	}
	for _, p := range r.pipes {
		for _, s := range []*stream{&p.up, &p.down} {
			if !s.flood {
				slowest = append(slowest, s.slowest)
			}
		}
	}
	for what, list := range map[string][]time.Duration{"batches stood still": pauses, "each stream's slowest frame": slowest} {
		slices.Sort(list)
		r.t.Logf("%s: median %v, 99%% %v, longest %v", what, list[len(list)/2], list[len(list)*99/100], list[len(list)-1])
	}
}
