package e2e

import (
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// An operator writes names as the file does, in whatever case.
func TestDrainTakesNamesAsTheFileHasThem(t *testing.T) {
	t.Parallel()
	socket := t.TempDir() + "/admin"
	p := launch(t, "", fmt.Sprintf("admin: unix:%s\npools: {Asia: {proxies: [{name: Tokyo-1, url: \"http://%s\"}]}}\nexchanges: {MyVenue: {hosts: [feed.venue.example], pool: ASIA}}\ndefault: reject\n", socket, testkit.ClosedPort(t)))
	for _, args := range []string{"drain Tokyo-1", "resume TOKYO-1", "drain tokyo-1 MyVenue", "resume Tokyo-1 MYVENUE", "drain tokyo-1 Binance"} {
		if out, code := p.command(t, strings.Fields(args)...); code != 0 {
			t.Errorf("proxyd %s: %d, %s", args, code, out)
		}
	}
	if out, _ := p.command(t, "status"); !strings.Contains(out, "drained for binance") || strings.Contains(out, "myvenue") {
		t.Errorf("status: %s", out)
	}
}
