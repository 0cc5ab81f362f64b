package feed

import (
	"math"
	"testing"
	"unsafe"
)

func TestVolumeKeepsOrderAndThreeDigits(t *testing.T) {
	last := volume(0)
	for n := int64(0); n < math.MaxUint32; n += 1 + n/1500 {
		v := volumeOf(n)
		if got := v.bytes(); got < n || float64(got) > float64(n)*1.001 || n < 2048 && got != n {
			t.Fatalf("%d bytes are %d", n, got)
		}
		if v < last {
			t.Fatalf("%d bytes have a smaller volume than fewer", n)
		}
		last = v
	}
	if volumeOf(-1) != 0 {
		t.Error("less than nothing")
	}
}

// What is kept of a tunnel is small: there are ten thousand.
func TestStateOfSilenceIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(tunnelSilence{}); n > 250 {
		t.Errorf("%d bytes for each tunnel", n)
	}
}

// taught returns a learner after so many windows in which as much came each second.
func taught(minutes int, down int64) *learner {
	l := &learner{}
	for range minutes * window {
		l.second(down)
	}
	return l
}

// Nothing is judged before ten minutes have passed and twenty windows had data.
func TestStreamIsJudgedAfterTwentyWindows(t *testing.T) {
	t.Parallel()
	for minutes, want := range map[int]bool{19: false, 20: true} {
		l := taught(minutes, 100)
		for range 100 {
			l.second(0)
		}
		if l.quiet != want {
			t.Errorf("silent after %d minutes of traffic: %t, want %t", minutes, l.quiet, want)
		}
	}
	l := taught(1, 100)
	for l.full < learnFull { // they may have come in less time, as far as it is concerned
		l.full++
	}
	for l.age = 599; l.age < 600; {
		if l.learned() {
			t.Fatal("judged before ten minutes")
		}
		l.second(100)
	}
	if !l.learned() {
		t.Error("not judged after ten minutes")
	}
}

// A window is low below 5 % of the median of the windows that are remembered.
func TestWindowBelowATwentiethIsLow(t *testing.T) {
	t.Parallel()
	for down, want := range map[int64]bool{49: true, 51: false} {
		l := taught(30, 1000)
		for range 3 * window {
			l.second(down)
		}
		if l.quiet != want {
			t.Errorf("%d bytes a second after 1000 are silence: %t, want %t", down, l.quiet, want)
		}
	}
}

// Silence is ten times the longest gap of the last hour, and 30 s at least.
func TestGapOfTenTimesTheLongestIsSilence(t *testing.T) {
	t.Parallel()
	for gap, want := range map[int]int{1: 30, 3: 30, 5: 50} {
		l := taught(1, 100)
		for i := range 30 * window {
			down := int64(0)
			if i%gap == 0 {
				down = 100 * int64(gap)
			}
			l.second(down)
		}
		l.second(1000)
		for l.fill != 0 { // until a window begins
			l.second(1000)
		}
		n := 0
		for ; !l.quiet && n < 200; n++ {
			l.second(0)
		}
		if n != want {
			t.Errorf("with gaps of %d s: silent after %d s, want %d", gap, n, want)
		}
	}
}
