package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// goreleaser builds what make packages builds, in the same manner.
func TestGoreleaserBuildsTheSame(t *testing.T) {
	text, err := os.ReadFile("../../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Before struct{ Hooks []string }
		Builds []struct{ Env, Flags, Ldflags, Goos, Goarch []string }
		Sboms  []struct{ Args []string }
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	build := c.Builds[0]
	var targets []string
	for _, goos := range build.Goos {
		for _, arch := range build.Goarch {
			targets = append(targets, goos+"/"+arch)
		}
	}
	if got := strings.Join(targets, ","); got != allTargets {
		t.Errorf("targets %s, want %s", got, allTargets)
	}
	program := buildFlags("{{ .Summary }}")
	if got := append(build.Flags, "-ldflags", build.Ldflags[0]); !slices.Equal(got, program) || !slices.Equal(build.Env, []string{"CGO_ENABLED=0"}) {
		t.Errorf("flags %q, want %q; env %q", got, program, build.Env)
	}
	for i, want := range []string{"run", cyclonedx, "bin", "-json", "-std", "-noserial", "-notimestamp"} {
		if got := c.Sboms[0].Args[i]; got != want {
			t.Errorf("SBOM: argument %d is %s, want %s", i, got, want)
		}
	}
	for _, hook := range c.Before.Hooks {
		if _, list, ok := strings.Cut(hook, "--steps "); ok {
			if _, err := parseSteps(list); err != nil {
				t.Error(err)
			}
		}
	}
}
