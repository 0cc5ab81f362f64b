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
