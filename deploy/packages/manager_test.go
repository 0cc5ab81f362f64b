//go:build packages && linux

package packages

import (
	"fmt"
	"strings"
	"testing"
)

// A manager is how packages are installed and removed.
type manager struct {
	kind      string
	install   string // or upgrade; %s is the file
	downgrade string
	again     string // the same version
	remove    string
	purge     string // "" where a removal is all
	enable    string // what starts the service, if the installation does not
	kept      string // the configuration after a removal, where the user has edited it
}

var (
	// apt is what one types; dpkg does the work.
	apt = manager{
		kind:      "deb",
		install:   "apt-get install -y -q --no-install-recommends %s",
		downgrade: "apt-get install -y -q --allow-downgrades %s",
		again:     "dpkg -i %s",
		remove:    "apt-get remove -y -q proxyd",
		purge:     "apt-get purge -y -q proxyd",
		kept:      "/etc/proxyd/proxyd.yaml",
	}
	// rpm itself, on Debian, where no package of its database has what others need.
	rpm = manager{
		kind:      "rpm",
		install:   "rpm --force-debian --nodeps -U --replacepkgs %s",
		downgrade: "rpm --force-debian --nodeps -U --oldpackage %s",
		again:     "rpm --force-debian --nodeps -U --replacepkgs %s",
		remove:    "rpm --force-debian -e proxyd",
		enable:    "systemctl enable --now proxyd",
		kept:      "/etc/proxyd/proxyd.yaml.rpmsave",
	}
)

// put installs a version, or upgrades to it.
func (p manager) put(t *testing.T, m *machine, version string) string {
	t.Helper()
	return m.run(t, fmt.Sprintf(p.install, packagesDir+"/"+version+"."+p.kind))
}

// says fails the test unless text has each of the words.
func says(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s does not say %q:\n%s", what, word, text)
		}
	}
}
