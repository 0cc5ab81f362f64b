//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What real JVMs make of the options: which proxy their clients take for an address.
func TestClientsJVMUnderExec(t *testing.T) {
	t.Parallel()
	dir, java := t.TempDir(), tool(t, "java", "java")
	const program = `class P { public static void main(String[] a) {
  for (String u : a) System.out.println(java.net.ProxySelector.getDefault().select(java.net.URI.create(u)).get(0).type());
} }`
	if err := os.WriteFile(filepath.Join(dir, "P.java"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	compile := exec.Command(tool(t, "java", "javac"), "-d", dir, filepath.Join(dir, "P.java")) //nolint:gosec // what is under test
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	path := file(t, "default: direct\n")
	for _, given := range []string{
		"JAVA_TOOL_OPTIONS=-Xmx64m", "JAVA_TOOL_OPTIONS=-Dhttp.nonProxyHosts=* -DsocksProxyHost=192.0.2.1", "JAVA_TOOL_OPTIONS=-Djava.net.useSystemProxies=true",
		"JDK_JAVA_OPTIONS=-Dhttp.nonProxyHosts=*", "_JAVA_OPTIONS=-Dhttp.nonProxyHosts=*",
	} {
		out, errOut, code := runExec(t, []string{given}, "-c", path, "--quiet", "--", java, "-cp", dir, "P",
			"https://api.exchange.example/", "http://api.exchange.example:8080/", "http://localhost/", "http://127.0.0.1:8080/", "http://[::1]/", "http://169.254.169.254/")
		if got := strings.Fields(out); code != 0 || strings.Join(got, " ") != "HTTP HTTP DIRECT DIRECT DIRECT DIRECT" {
			t.Errorf("with %s: exit code %d: %q\n%s", given, code, got, errOut)
		}
	}
}
