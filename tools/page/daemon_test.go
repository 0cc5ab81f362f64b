package page

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"proxyd/internal/testkit"
)

var built struct {
	once sync.Once
	dir  string
	err  error
}

// binary builds the program from the source beside this module, once.
func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "proxyd-page"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-C", "../..", "-o", filepath.Join(built.dir, "proxyd"), "./cmd/proxyd").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "proxyd")
}

func removeBinary() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// daemon is the real program with a real configuration file.
type daemon struct {
	t    testing.TB
	file string
	Addr string // of its listener
	Page string // http://…/
	log  *testkit.Output
	cmd  *exec.Cmd
	done chan struct{}
}

var (
	listening = regexp.MustCompile(`"msg":"listening","address":"([^"]+)"`)
	adminAt   = regexp.MustCompile(`"msg":"admin","address":"([^"]+)"`)
)

// launch starts proxyd with this configuration on free ports.
func launch(t testing.TB, yaml string) *daemon {
	t.Helper()
	d := &daemon{t: t, file: filepath.Join(t.TempDir(), "proxyd.yaml"), log: &testkit.Output{}, done: make(chan struct{})}
	d.save("listen: 127.0.0.1:0\n" + yaml)
	d.cmd = exec.Command(binary(t), "run", "-c", d.file)
	d.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = d.cmd.Wait(); close(d.done) }() // ends with the process, which stop kills
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			log := d.log.String()
			t.Logf("the end of the daemon's log:\n%s", log[max(0, len(log)-4000):])
		}
	})
	testkit.Eventually(t, testkit.Patience, "the daemon is ready", func() bool { return strings.Contains(d.log.String(), `"msg":"ready"`) })
	d.Addr = listening.FindStringSubmatch(d.log.String())[1]
	d.Page = "http://" + adminAt.FindStringSubmatch(d.log.String())[1] + "/"
	return d
}

// stop kills the daemon.
func (d *daemon) stop() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

// save writes the configuration file, as an editor does.
func (d *daemon) save(yaml string) {
	d.t.Helper()
	if err := os.WriteFile(d.file+".new", []byte(yaml), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(d.file+".new", d.file); err != nil {
		d.t.Fatal(err)
	}
}

// follow opens a websocket to a host of an exchange through the daemon, and reads
// it until the test or the connection ends.
func (d *daemon) follow(x *testkit.Exchange, host, path string) *websocket.Conn {
	d.t.Helper()
	c, err := d.open(x, host, path)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func (d *daemon) open(x *testkit.Exchange, host, path string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: d.Addr}),
		TLSClientConfig: &tls.Config{RootCAs: x.CA.Pool},
	}}
	c, resp, err := websocket.Dial(ctx, "wss://"+host+path, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close()
		}
		return nil, err
	}
	c.SetReadLimit(1 << 20)
	d.t.Cleanup(func() { _ = c.CloseNow() })
	go func() { // ends with the connection, which it closes then, as clients do
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				_ = c.CloseNow()
				return
			}
		}
	}()
	return c, nil
}

// get asks the admin address.
func (d *daemon) get(path string) string {
	d.t.Helper()
	resp, err := http.Get(strings.TrimSuffix(d.Page, "/") + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(body)
}
