package proxyclient

import (
	"testing"
	"time"
)

// A certificate is reported two weeks before its end; one that lives only for weeks,
// which is renewed later, in the last third of its life.
func TestValidityWarnAt(t *testing.T) {
	const day = 24 * time.Hour
	issued := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ lifetime, warn time.Duration }{
		{90 * day, 76 * day}, {398 * day, 384 * day}, {42 * day, 28 * day}, {6 * day, 4 * day}, {24 * time.Hour, 16 * time.Hour}, {-day, -day},
	} {
		v := Validity{issued, issued.Add(tt.lifetime)}
		at := issued.Add(tt.warn)
		if got := v.WarnAt(); !got.Equal(at) {
			t.Errorf("%v: at %v, want %v", tt.lifetime, got, at)
		}
		if v.ExpiresSoon(at.Add(-time.Second)) || !v.ExpiresSoon(at) || !v.ExpiresSoon(v.NotAfter.Add(day)) {
			t.Errorf("%v: expires soon at the wrong time", tt.lifetime)
		}
	}
	if (Validity{}).ExpiresSoon(issued) {
		t.Error("no certificate expires soon")
	}
}
