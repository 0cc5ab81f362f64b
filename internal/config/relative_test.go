package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
	"proxyd/internal/config/internal/raw"
	"proxyd/internal/testkit"
)

// everyPath names a file under each key that can, below the folder conf.
const everyPath = `catalog: conf/rows.csv
listen: {address: "127.0.0.1:0", tls: {cert_file: conf/cert.pem, key_file: ./conf/key.pem}}
admin: {address: "127.0.0.1:0", token: "${file:conf/token}"}
pools:
  asia:
    list: conf/asia.txt
    proxies: [{url: "https://u:${file:conf/token}@a.example:1", tls: {ca_file: conf/cert.pem}, via: {url: "https://b.example:1", tls: {ca_file: conf/cert.pem}}}]
default: {url: "https://c.example:1", tls: {ca_file: conf/cert.pem, cert_file: conf/cert.pem, key_file: conf/key.pem}}
`

// withPaths writes everyPath and the files that it names, and returns the folder.
func withPaths(t *testing.T) (dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir()) // as the working directory is spelled after Chdir
	if err != nil {
		t.Fatal(err)
	}
	cert, key := testkit.NewCA(t).Files(t, "proxyd.example")
	if err := os.Mkdir(filepath.Join(dir, "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"conf/cert.pem": cert, "conf/key.pem": key} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		save(t, filepath.Join(dir, name), string(text))
	}
	save(t, filepath.Join(dir, "conf/token"), "s3cret\n")
	save(t, filepath.Join(dir, "conf/asia.txt"), "192.0.2.1:80\n")
	save(t, filepath.Join(dir, "conf/rows.csv"), catalogHead+"my_venue,api.venue.example,http,live,\n")
	save(t, filepath.Join(dir, "proxyd.yaml"), everyPath)
	return dir
}

// paths are all that a configuration of everyPath names.
func paths(c *config.Config) []string {
	asia := config.PoolsByName(c)["asia"]
	member, hop := asia.Proxies[0].TLS, config.PoolsByName(c)[asia.Proxies[0].Via.Pool].Proxies[0].TLS
	single := config.PoolsByName(c)[c.Default.HTTP.Pool].Proxies[0].TLS
	return append([]string{c.CatalogFile, asia.List, c.Listen[0].TLSCert, c.Listen[0].TLSKey, member.CAFile, hop.CAFile, single.CAFile, single.CertFile, single.KeyFile}, c.Files()...)
}

// wantPaths are those paths below a folder, "" for the working directory.
func wantPaths(dir string) (list []string) {
	for _, name := range []string{"rows.csv", "asia.txt", "cert.pem", "key.pem", "cert.pem", "cert.pem", "cert.pem", "cert.pem", "key.pem", "token", "asia.txt", "rows.csv"} {
		list = append(list, filepath.Join(dir, "conf", name))
	}
	return list
}

func TestRelativePathBeginsAtFolderOfFile(t *testing.T) {
	dir := withPaths(t)
	parent, name := filepath.Split(dir)
	for at, file := range map[string]string{
		"/":    filepath.Join(dir, "proxyd.yaml"), // as under systemd
		parent: filepath.Join(name, "proxyd.yaml"),
		dir:    "proxyd.yaml",
	} {
		t.Run(file, func(t *testing.T) {
			t.Chdir(at)
			c, err := config.Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantPaths(dir), paths(c)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if c.Admin.Token.Reveal() != "s3cret" {
				t.Error("the token is another file's")
			}
			for _, f := range config.NamedFiles(file) {
				if !slices.Contains(c.Files(), f) {
					t.Errorf("the watcher is given %s for a file that is not in force", f)
				}
			}
			printed := config.Print(c)
			if !strings.Contains(printed, "ca_file: "+filepath.Join(dir, "conf/cert.pem")) || !strings.Contains(printed, "list: "+filepath.Join(dir, "conf/asia.txt")) {
				t.Errorf("printed:\n%s", printed)
			}
		})
	}
}

// A variable sets a key, so that its path begins where that of the key does; without a
// file it begins at the working directory.
func TestRelativePathOfVariable(t *testing.T) {
	dir := withPaths(t)
	save(t, filepath.Join(dir, "conf/proxyd.yaml"), "default: direct\n")
	t.Chdir(dir)
	for file, name := range map[string]string{"": "conf/rows.csv", "conf/proxyd.yaml": "rows.csv"} {
		c, err := config.Load(file, []string{"PROXYD_CATALOG=" + name})
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(dir, "conf/rows.csv"); c.CatalogFile != want && (file != "" || c.CatalogFile != name) {
			t.Errorf("with the file %q: %s", file, c.CatalogFile)
		}
	}
	if _, err := config.Load("", []string{"PROXYD_CATALOG=none.csv"}); err == nil || !strings.HasSuffix(err.Error(), "correct the path, which begins at the working directory") {
		t.Errorf("got %v", err)
	}
}

// What is no path that can be shown is not shown, wherever it leads.
func TestRelativePathThatCannotBeRead(t *testing.T) {
	t.Parallel()
	const where = "create the file, or correct the path, which begins at the folder of the configuration"
	for name, c := range map[string]struct{ text, want string }{
		"ca_file":      {`default: {url: "https://h.example:1", tls: {ca_file: geheim}}`, "default.tls.ca_file: the file cannot be read: no such file or directory; " + where},
		"a dot before": {`default: {url: "https://h.example:1", tls: {ca_file: ./ca.pem}}`, "default.tls.ca_file: ./ca.pem cannot be read: no such file or directory; " + where},
		"cert_file":    {`listen: {address: "127.0.0.1:0", tls: {cert_file: geheim, key_file: geheim}}`, "listen.tls.cert_file: the file cannot be read: no such file or directory; " + where},
		"catalog":      {`catalog: geheim`, "catalog: the file cannot be read: no such file or directory; " + where},
		"list":         {`pools: {asia: {list: geheim}}`, "pools.asia.list: the file cannot be read: no such file or directory; " + where},
		"a secret":     {`admin: {token: "${file:geheim}"}`, "admin.token: the file cannot be read: no such file or directory; " + where},
		"absolute":     {`catalog: /nonexistent/rows.csv`, "catalog: /nonexistent/rows.csv cannot be read: no such file or directory; create the file, or correct the path"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(write(t, c.text+"\n"), nil)
			if err == nil || !strings.HasSuffix(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// A key that names a file, and is not marked so, would begin at the working directory.
func TestEveryKeyThatNamesAFileIsMarked(t *testing.T) {
	t.Parallel()
	var marked []string
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(typ.Elem())
		case reflect.Struct:
			if seen[typ] {
				return
			}
			seen[typ] = true
			for f := range typ.NumField() {
				field := typ.Field(f)
				key := field.Tag.Get("mapstructure")
				if field.Tag.Get("names") == "file" {
					marked = append(marked, typ.Name()+"."+key)
				} else if strings.HasSuffix(key, "_file") || strings.HasSuffix(key, "_dir") || strings.HasSuffix(key, "_path") {
					t.Errorf("%s.%s names a file and is not marked", typ.Name(), key)
				}
				visit(field.Type)
			}
		default:
		}
	}
	visit(reflect.TypeFor[raw.File]())
	slices.Sort(marked)
	want := []string{"File.catalog", "File.state_dir", "List.=", "ServerTLS.cert_file", "ServerTLS.key_file", "TLS.ca_file", "TLS.cert_file", "TLS.key_file"}
	if diff := cmp.Diff(want, marked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
