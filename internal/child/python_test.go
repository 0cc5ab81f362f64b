package child

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/testkit"
)

// installed are the Pythons of this machine that the shim is for, by version.
var installed = sync.OnceValue(func() map[string]string {
	list := map[string]string{}
	for minor := 8; minor <= 14; minor++ {
		name := fmt.Sprintf("python3.%d", minor)
		if out, err := exec.Command(name, "-c", "import sys; print(sys.executable)").Output(); err == nil { //nolint:gosec // of this list
			list[name] = strings.TrimSpace(string(out))
		}
	}
	return list
})

// eachPython runs a test with each of them.
func eachPython(t *testing.T, test func(t *testing.T, python string)) {
	t.Helper()
	t.Parallel()
	if len(installed()) == 0 {
		testkit.Lacks(t, "a Python from 3.8 to 3.14")
	}
	for name, python := range installed() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, python)
		})
	}
}

// runPython runs a program with the shim in front of the files of a directory.
func runPython(t *testing.T, python string, files map[string]string, program string) string {
	t.Helper()
	shim, err := writeShims(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "-B", "-c", program) //nolint:gosec // what is under test
	cmd.Env = append(os.Environ(), "PYTHONPATH="+shim+string(os.PathListSeparator)+dir, "https_proxy=http://exec-1:x@127.0.0.1:9", "no_proxy=localhost,.corp.example")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", python, err, out)
	}
	return strings.TrimSpace(strings.ReplaceAll(string(out), shim, "SHIM"))
}

// At its start the shim imports nothing, and a sitecustomize that was there runs too.
func TestPythonShimStartsUnseen(t *testing.T) {
	eachPython(t, func(t *testing.T, python string) {
		next := map[string]string{"sitecustomize.py": "import sys\nsys.ran = True\nsys.path.insert(0, '/put/there')\n"}
		got := runPython(t, python, next, `import sys
seen = set(sys.modules)
import os, subprocess
without = dict(os.environ, PYTHONPATH=os.environ['PYTHONPATH'].split(os.pathsep, 1)[1])
others = subprocess.check_output([sys.executable, '-B', '-c', 'import sys; print(*sys.modules)'], env=without).decode().split()
print(sys.ran, sys.path.count('/put/there'), sorted(seen.symmetric_difference(others)), len([p for p in sys.path if 'proxyd-exec' in p]))`)
		if got != "True 1 [] 1" {
			t.Errorf("%s: %s", python, got)
		}
	})
}

// A sitecustomize that fails is reported as it would be without the shim.
func TestPythonShimWithoutNextOne(t *testing.T) {
	eachPython(t, func(t *testing.T, python string) {
		if got := runPython(t, python, nil, "import sys; print('sitecustomize' in sys.modules)"); got != "True" {
			t.Errorf("%s: %s", python, got)
		}
		got := runPython(t, python, map[string]string{"sitecustomize.py": "raise ValueError('broken')\n"}, "print('goes on')")
		if !strings.Contains(got, "ValueError: broken") || !strings.HasSuffix(got, "goes on") {
			t.Errorf("%s: %s", python, got)
		}
	})
}

// What it changes is changed once imported, and keeps its own loader; a package that
// it cannot change is reported, and works.
func TestPythonShimHooksImports(t *testing.T) {
	files := map[string]string{
		"requests/__init__.py":  "from . import sessions\n",
		"requests/sessions.py":  "def get_netrc_auth(url, raise_errors=False): return ('trader', 'geheim')\n",
		"ccxt/__init__.py":      "",
		"ccxt/base/__init__.py": "",
		"ccxt/base/exchange.py": "unlike = True\n",
	}
	eachPython(t, func(t *testing.T, python string) {
		got := runPython(t, python, files, `import os, sys
os.environ['NETRC'] = os.path.join(os.path.dirname(__import__('requests').__file__), 'netrc')
with open(os.environ['NETRC'], 'w') as f: f.write('machine known.example login a password b\ndefault login c password d\n')
import requests.sessions as s, ccxt.base.exchange
print(type(s.__loader__).__name__, type(s.__spec__.loader).__name__, s.get_netrc_auth('https://known.example/'), s.get_netrc_auth('https://other.example/'), ccxt.base.exchange.unlike)
import sitecustomize as c
print(c._environment_proxy('https', 'a.example'), c._environment_proxy('wss', 'a.example'), c._environment_proxy('https', 'x.corp.example'), c._environment_proxy('ftp', 'a.example'))`)
		for _, want := range []string{
			"ccxt.base.exchange could not be made to use the proxy, and may connect directly",
			"SourceFileLoader SourceFileLoader ('trader', 'geheim') None True",
			"http://exec-1:x@127.0.0.1:9 http://exec-1:x@127.0.0.1:9 None None",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %s", python, got)
			}
		}
	})
}

// Before 9, websockets had what became its legacy client in another module.
func TestPythonShimTunnelsOldWebsockets(t *testing.T) {
	const connect = `import asyncio, functools
class Connect:
    def __init__(self, uri, **kwargs):
        loop = asyncio.get_event_loop()
        self._create_connection = functools.partial(loop.create_connection, asyncio.Protocol, 'a.example', 80)
    def __await__(self):
        return self._create_connection().__await__()
connect = Connect
`
	layouts := map[string]map[string]string{
		"8.1": {"websockets/client.py": connect},
		"9.1": {"websockets/legacy/__init__.py": "", "websockets/legacy/client.py": connect, "websockets/client.py": "from .legacy.client import *\n"},
	}
	eachPython(t, func(t *testing.T, python string) {
		for version, files := range layouts {
			files = maps.Clone(files)
			files["websockets/__init__.py"] = "from .client import connect\n"
			got := runPython(t, python, files, `import asyncio, os, socket, threading, websockets
proxy = socket.socket(); proxy.bind(('127.0.0.1', 0)); proxy.listen(2)
os.environ['http_proxy'] = 'http://exec-1:x@127.0.0.1:%d' % proxy.getsockname()[1]
def serve():
    c = proxy.accept()[0]
    print(c.recv(4096).split(b'\r\n')[0])
    c.sendall(b'HTTP/1.1 200 OK\r\n\r\n')
threading.Thread(target=serve, daemon=True).start()
async def main():
    transport, _ = await websockets.connect('ws://a.example/')
    print(transport.get_extra_info('peername')[1] == proxy.getsockname()[1])
    transport.abort()
asyncio.run(main())`)
			if got != "b'CONNECT a.example:80 HTTP/1.1'\nTrue" {
				t.Errorf("websockets %s, %s: %s", version, python, got)
			}
		}
	})
}
