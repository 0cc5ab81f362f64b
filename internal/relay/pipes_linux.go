package relay

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	maxPipes = 16      // for all flows: bulk on more of them at once is copied
	pipeSize = 1 << 20 // what an unprivileged user may ask for; 16 of them stay far below the 64 MiB that it may have in all
)

// pipe is a kernel pipe that splice moves bytes through.
type pipe struct{ r, w, size int }

// pipes is the bounded set of pipes of an engine. A flow has one only while it
// moves bulk; io.Copy would hold two for the whole life of every tunnel.
type pipes struct {
	mu   sync.Mutex
	free []*pipe
	made int
}

// get returns an empty pipe, nil if none is to be had.
func (p *pipes) get() *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		got := p.free[n-1]
		p.free = p.free[:n-1]
		return got
	}
	if p.made == maxPipes {
		return nil
	}
	var fd [2]int
	if err := syscall.Pipe2(fd[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil
	}
	p.made++
	got := &pipe{r: fd[0], w: fd[1], size: 64 << 10}
	if n, err := unix.FcntlInt(uintptr(fd[0]), unix.F_SETPIPE_SZ, pipeSize); err == nil {
		got.size = n
	} else if n, err := unix.FcntlInt(uintptr(fd[0]), unix.F_GETPIPE_SZ, 0); err == nil {
		got.size = n
	}
	return got
}

// put takes a pipe back; one that is not empty is closed with what is in it.
func (p *pipes) put(got *pipe, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if empty {
		p.free = append(p.free, got)
		return
	}
	p.made--
	_ = syscall.Close(got.r)
	_ = syscall.Close(got.w)
}

// close gives the free pipes back to the kernel.
func (p *pipes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.free {
		_ = syscall.Close(f.r)
		_ = syscall.Close(f.w)
	}
	p.made -= len(p.free)
	p.free = nil
}
