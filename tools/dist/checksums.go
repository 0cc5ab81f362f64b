package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
)

// checksums writes checksums.txt, for sha256sum --check: the files of the output
// directory, in order of their names.
func (r *release) checksums(context.Context) error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, e := range entries {
		if e.IsDir() || e.Name() == "checksums.txt" {
			continue
		}
		text, err := os.ReadFile(r.path(e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(text), e.Name())
	}
	return write(r.path("checksums.txt"), []byte(b.String()))
}
