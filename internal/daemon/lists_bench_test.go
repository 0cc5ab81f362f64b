package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/config"
)

// BenchmarkListReload is what a reload for a list of 5,000 members of which 10 change
// takes, but for the fetch.
func BenchmarkListReload(b *testing.B) {
	text := func(n int) []byte {
		var list strings.Builder
		for i := range 5000 {
			name := "host"
			if i%500 == n {
				name = "new"
			}
			fmt.Fprintf(&list, "%s-%d.provider.example:1080:user-%d:password\n", name, i, i)
		}
		return []byte(list.String())
	}
	lists := func(n int) func(*config.ListSource) *config.ListText {
		one := text(n)
		return func(s *config.ListSource) *config.ListText {
			list, err := s.Read(one)
			if err != nil {
				b.Fatal(err)
			}
			return list
		}
	}
	file := filepath.Join(b.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(file, []byte("pools: {asia: {list: {from: \"https://lists.example/x\", via: direct}}}\ndefault: asia\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	c, err := config.LoadWith(file, nil, config.Options{Lists: lists(0)})
	if err != nil {
		b.Fatal(err)
	}
	prev, err := Snapshot(c, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	sets := []func(*config.ListSource) *config.ListText{lists(0), lists(1)}
	for i := 0; b.Loop(); i++ {
		c, err := prev.Config().WithLists(sets[(i+1)%2])
		if err != nil {
			b.Fatal(err)
		}
		next, err := Snapshot(c, prev.Set(), nil)
		if err != nil {
			b.Fatal(err)
		}
		if lines := config.Diff(prev.Config(), c); len(lines) != 1 {
			b.Fatal(lines)
		}
		config.ShrunkLists(prev.Config(), c)
		next.Set().Activate()
		prev = next
	}
}
