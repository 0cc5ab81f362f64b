package limit

// ring keeps the times of the last grants, ascending, in nanoseconds of the
// table's clock. It grows as it fills.
type ring struct {
	at    []int64
	first int // where the oldest one is
	kept  int // how many there are
	old   int // how many of them, the oldest ones, are outside the window
}

// live returns how many are within the window.
func (r *ring) live() int { return r.kept - r.old }

// time returns the i-th oldest one's.
func (r *ring) time(i int) int64 {
	if i += r.first; i >= len(r.at) {
		i -= len(r.at)
	}
	return r.at[i]
}

// expire moves on to a window that ends now.
func (r *ring) expire(now, window int64) {
	for r.old < r.kept && now-r.time(r.old) > window {
		r.old++
	}
}

// push adds a time that is none of the past's.
func (r *ring) push(now int64) {
	if r.kept == len(r.at) {
		r.resize(max(8, 2*r.kept))
	}
	i := r.first + r.kept
	if i >= len(r.at) {
		i -= len(r.at)
	}
	r.at[i] = now
	r.kept++
}

// trim forgets the oldest ones beyond so many; none that is within the window,
// if inside is kept.
func (r *ring) trim(most int, inside bool) {
	for r.kept > most && (r.old > 0 || !inside) {
		if r.first++; r.first == len(r.at) {
			r.first = 0
		}
		r.kept--
		r.old = max(0, r.old-1)
	}
}

// set replaces all times, of which it forgets where the window began.
func (r *ring) set(at []int64) { *r = ring{at: at, kept: len(at)} }

func (r *ring) resize(size int) {
	at := make([]int64, size)
	for i := range r.kept {
		at[i] = r.time(i)
	}
	r.at, r.first = at, 0
}

// all returns the times.
func (r *ring) all() []int64 {
	list := make([]int64, r.kept)
	for i := range list {
		list[i] = r.time(i)
	}
	return list
}
