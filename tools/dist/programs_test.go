package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
)

// Every target is done; after an error those that are left see that it is over.
func TestEachTarget(t *testing.T) {
	targets, err := parseTargets(allTargets)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	done := map[string]int{}
	err = each(t.Context(), targets, func(_ context.Context, t target) error {
		mu.Lock()
		defer mu.Unlock()
		done[t.dir()]++
		return nil
	})
	if err != nil || len(done) != strings.Count(allTargets, ",")+1 {
		t.Errorf("%v, %v", done, err)
	}

	wrong := errors.New("no space")
	err = each(t.Context(), targets, func(ctx context.Context, t target) error {
		if t == targets[0] {
			return wrong
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, wrong) {
		t.Errorf("the error is %v", err)
	}
}
