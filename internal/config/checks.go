package config

import (
	"time"

	"proxyd/internal/config/internal/raw"
)

func (b *builder) health(key string, r *raw.Health) Health {
	if r == nil {
		return Health{}
	}
	h := Health{
		Method: orDefault(r.Method, "connect"), Interval: b.seconds(key+".interval_seconds", r.IntervalSeconds, 30, 1, 86400),
		Timeout: b.seconds(key+".timeout_seconds", r.TimeoutSeconds, 5, 0.1, 300),
		Rise:    b.whole(key+".rise", r.Rise, 2, 1, 100), Fall: b.whole(key+".fall", r.Fall, 3, 1, 100),
	}
	if !orDefault(r.Enabled, true) { // what stands beside it has been checked all the same
		return Health{}
	}
	return h
}

func defaultEject() Eject {
	return Eject{After: 3, Base: 5 * time.Second, Max: 300 * time.Second, MaxPercent: 100}
}

func (b *builder) eject(key string, r *raw.Eject) Eject {
	if r == nil {
		return defaultEject()
	}
	e := Eject{
		After: b.whole(key+".after", r.After, 3, 1, 1000), Base: b.seconds(key+".base_seconds", r.BaseSeconds, 5, 0.1, 86400),
		Max: b.seconds(key+".max_seconds", r.MaxSeconds, 300, 0.1, 86400), MaxPercent: b.whole(key+".max_percent", r.MaxPercent, 100, 0, 100),
	}
	if e.Base > e.Max {
		b.missing(key, "raise max_seconds, or lower base_seconds", "base_seconds (%s) is more than max_seconds (%s)", plain(e.Base.Seconds()), plain(e.Max.Seconds()))
	}
	return e
}
