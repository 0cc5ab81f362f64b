package config_test

import (
	"testing"

	"proxyd/internal/config"
)

// Commands look for the daemon where it is: both readers agree with what is
// loaded, however the address is written and whatever a variable adds to it.
func TestAddressesAloneAreThoseLoaded(t *testing.T) {
	for name, c := range map[string]struct {
		file    string
		environ []string
	}{
		"nothing written":             {"watch: true\n", nil},
		"text":                        {"admin: 127.0.0.1:9001\nlisten: 127.0.0.1:1\n", nil},
		"mappings":                    {"admin: {address: 127.0.0.1:9001}\nlisten: [{address: 127.0.0.1:1}]\n", nil},
		"no address in the mapping":   {"admin: {pprof: true}\n", nil},
		"text, and a variable beside": {"admin: 127.0.0.1:9001\nlisten: [127.0.0.1:1]\n", []string{"PROXYD_ADMIN__PPROF=true", "PROXYD_LISTEN__0__USE=direct"}},
		"text, and a variable over":   {"admin: 127.0.0.1:9001\nlisten: [127.0.0.1:1]\n", []string{"PROXYD_ADMIN__ADDRESS=127.0.0.1:9002", "PROXYD_LISTEN__0__ADDRESS=127.0.0.1:2"}},
		"only variables":              {"watch: true\n", []string{"PROXYD_ADMIN=127.0.0.1:9002", `PROXYD_LISTEN=["127.0.0.1:2"]`}},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.file)
			loaded, err := config.Load(path, c.environ)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := config.AdminAddress(path, c.environ); err != nil || got != loaded.Admin.Address {
				t.Errorf("admin: got %q, %v; loaded %q", got, err, loaded.Admin.Address)
			}
			if got, secured, err := config.ListenAddress(path, c.environ); err != nil || secured || got != loaded.Listen[0].Address {
				t.Errorf("listen: got %q, %v, %v; loaded %q", got, secured, err, loaded.Listen[0].Address)
			}
		})
	}
}
