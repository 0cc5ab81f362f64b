package config_test

import (
	"math/rand/v2"
	"testing"

	"proxyd/internal/config"
)

func TestShareTakesItsPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		share       config.Share
		limit, want int
	}{
		{config.Share{}, 300, 300},
		{config.Share{1, 30}, 300, 10},
		{config.Share{1, 30}, 299, 9},
		{config.Share{7, 30}, 100, 23},
		{config.Share{1, 1}, 5, 5},
		{config.Share{1, 300}, 7, 0},
		{config.Share{2, 5}, 2, 1}, // two such hosts at most: 2
		{config.Share{1, 3}, 2, 0}, // three of them: 3
		{config.Share{1, 8}, 7, 0},
		{config.Share{1, 7}, 7, 1},
		{config.Share{1_000_000, 1_000_000}, 10_000_000, 10_000_000},
	} {
		if got := c.share.Take(c.limit); got != c.want {
			t.Errorf("%v of %d = %d, want %d", c.share, c.limit, got, c.want)
		}
	}
}

// Promise (routing): hosts whose shares add up to at most 1 never have more of a limit together than the limit, however the shares are cut.
func TestSharesOfAllHostsStayWithinTheLimit(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		of, limit, sum := 1+r.IntN(60), 1+r.IntN(40), 0
		for left := of; left > 0; {
			part := 1 + r.IntN(min(left, 1+r.IntN(of)))
			left -= part
			k := 1 + r.IntN(9) // the same share in other numbers
			n := config.Share{part * k, of * k}.Take(limit)
			if n < limit*part/of {
				t.Fatalf("%d/%d of %d = %d: less than rounded down", part, of, limit, n)
			}
			sum += n
		}
		if sum > limit {
			t.Fatalf("hosts with parts of %d have %d of %d together", of, sum, limit)
		}
	}
}
