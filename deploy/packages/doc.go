// Package packages tests the lives of proxyd's packages: the .deb and the .rpm are
// installed, configured, upgraded under live feeds, downgraded and removed on machines
// made by debootstrap, with systemd as the first process and without it.
//
// The tests have the build tag packages, need root, and are started by check.sh alone.
// What the packages consist of is in nfpm.yaml beside it.
package packages
