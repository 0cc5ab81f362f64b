package daemon

import (
	"net"
	"runtime"
	"strings"

	"go.uber.org/zap"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// announce writes the first lines: which configuration is in force, where
// proxyd listens and for whom, what goes direct, and what to do next.
func (d *Daemon) announce() {
	snap := d.snapshot.Load()
	c := snap.Config()
	d.log().Info("proxyd", zap.String("version", d.options.Version), zap.String("go", runtime.Version()),
		zap.String("catalogue", catalog.Date()), zap.String("config", d.fileName()), zap.Int("generation", d.generation))
	for _, l := range c.Listen {
		b := d.boundAt(l.Address)
		if b == nil {
			d.log().Info("not listening", zap.String("address", l.Address), zap.String("why", "this machine has no IPv6 loopback"))
			continue
		}
		d.log().Info("listening", zap.String("address", b.ln.Addr().String()), zap.String("for", audience(l, b.ln.Addr())))
	}
	d.sayAdmin()
	d.log().Info("limits", zap.Uint64("open_files", d.files), zap.Int("max_tunnels", d.tunnelLimit(snap)))
	d.warn(d.warnings(snap))
	d.log().Info("ready", zap.String("next", d.next(c)))
}

// next is the line to paste into the shell of a client.
func (d *Daemon) next(c *config.Config) string {
	if d.options.Next == nil {
		return `eval "$(proxyd env)"`
	}
	chosen := ""
	if host, port, err := net.SplitHostPort(c.Listen[0].Address); err == nil && port == "0" {
		if b := d.boundAt(c.Listen[0].Address); b != nil {
			_, port, _ = net.SplitHostPort(b.ln.Addr().String())
			chosen = net.JoinHostPort(host, port)
		}
	}
	return d.options.Next(chosen)
}

// warn logs what an operator should know of a configuration.
func (d *Daemon) warn(warnings []string) {
	for _, w := range warnings {
		d.log().Warn("configuration", zap.String("warning", w))
	}
}

func (d *Daemon) boundAt(address string) *boundListener {
	for _, b := range d.listeners() {
		if b.address == address {
			return &b
		}
	}
	return nil
}

// audience says who may use a listener.
func audience(l config.Listener, at net.Addr) string {
	tcp, ok := at.(*net.TCPAddr)
	who := "anybody who can reach it"
	if ok && tcp.IP.IsLoopback() {
		who = "this machine only"
	}
	var need []string
	if len(l.Allow) > 0 {
		nets := make([]string, len(l.Allow))
		for i, p := range l.Allow {
			nets[i] = p.String()
		}
		need = append(need, "from "+strings.Join(nets, ", "))
	}
	if len(l.Users) > 0 {
		need = append(need, "with a password")
	}
	if len(need) == 0 {
		return who
	}
	return who + ", " + strings.Join(need, ", ")
}

func (d *Daemon) fileName() string {
	if d.options.ConfigPath == "" {
		return "built-in defaults (no proxyd.yaml here or in /etc/proxyd)"
	}
	return d.options.ConfigPath
}
