package schema

import (
	"fmt"
	"reflect"
	"strings"

	"proxyd/internal/config/internal/raw"
)

// group is one table of the key reference.
type group struct {
	title, prefix string
	of            reflect.Type
}

// groups are the tables of the key reference, in their order.
var groups = []group{
	{"Top level", "", reflect.TypeFor[raw.File]()},
	{"Keys of a listener", "listen[].", reflect.TypeFor[raw.Listener]()},
	{"Keys of the admin server", "admin.", reflect.TypeFor[raw.Admin]()},
	{"Keys of an outbound", "", reflect.TypeFor[raw.Outbound]()},
	{"Keys by kind", "", reflect.TypeFor[raw.Outbounds]()},
	{"Keys of a pool", "pools.NAME.", reflect.TypeFor[raw.Pool]()},
	{"Keys of a member", "proxies[].", reflect.TypeFor[raw.Proxy]()},
	{"Keys of TLS to a proxy", "tls.", reflect.TypeFor[raw.TLS]()},
	{"Keys of an exchange", "exchanges.ID.", reflect.TypeFor[raw.Exchange]()},
	{"Keys of limits", "limits.", reflect.TypeFor[raw.Limits]()},
	{"Keys of a silence window", "silence.", reflect.TypeFor[raw.Silence]()},
	{"Keys of a health check", "health_check.", reflect.TypeFor[raw.Health]()},
	{"Keys of ejection", "eject.", reflect.TypeFor[raw.Eject]()},
}

// linked is what stands under "value" for the types that the document explains.
var linked = map[reflect.Type]string{
	reflect.TypeFor[raw.Listener]():  "[listeners](#listeners)",
	reflect.TypeFor[raw.Admin]():     "[admin server](#the-admin-server)",
	reflect.TypeFor[raw.Outbound]():  "[outbound](#outbounds)",
	reflect.TypeFor[raw.Outbounds](): "[outbound](#outbounds), for both kinds or by kind",
	reflect.TypeFor[raw.PoolRef]():   "[pool](#pools)",
	reflect.TypeFor[raw.Pool]():      "[pools](#pools) by name",
	reflect.TypeFor[raw.Proxy]():     "[members](#pools)",
	reflect.TypeFor[raw.TLS]():       "[TLS](#keys-of-tls-to-a-proxy)",
	reflect.TypeFor[raw.Exchange]():  "[exchanges](#exchanges) by id",
	reflect.TypeFor[raw.Route]():     "[routes](#routes)",
	reflect.TypeFor[raw.Limits]():    "[limits](#limits)",
	reflect.TypeFor[raw.Silence]():   "[silence](#silence)",
	reflect.TypeFor[raw.Health]():    "[health check](#health-checks)",
	reflect.TypeFor[raw.Eject]():     "[ejection](#ejection)",
}

// plainDefaults are defaults that are words of the document, not of the file.
var plainDefaults = map[string]bool{"": true, "none": true, "all": true, "off": true}

// Reference returns the key reference of docs/configuration.md: the tables of all
// keys, with the descriptions of the raw types. dir holds their source.
func Reference(dir string) (string, error) {
	comments, err := descriptions(dir)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, g := range groups {
		fmt.Fprintf(&out, "\n### %s\n\n| key | default | value | meaning |\n|---|---|---|---|\n", g.title)
		rows(&out, g.of, g.prefix, comments)
	}
	return out.String(), nil
}

// rows writes a row for each key of a type, and for the keys below it that have no
// table of their own.
func rows(out *strings.Builder, t reflect.Type, prefix string, comments map[string]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("mapstructure")
		if key == raw.Short || strings.HasPrefix(key, ",") {
			continue
		}
		meaning, byDefault, _ := strings.Cut(comments[t.Name()+"."+f.Name], "Default: ")
		byDefault = strings.TrimSuffix(byDefault, ".")
		if !plainDefaults[byDefault] && !strings.ContainsAny(byDefault, " `") {
			byDefault = "`" + byDefault + "`"
		}
		spelled := "`" + prefix + key + "`"
		if alias := f.Tag.Get("alias"); alias != "" {
			spelled += " or `" + alias + "`"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", spelled, byDefault, valueText(f), strings.TrimSpace(meaning))
		below, item := elem(f.Type)
		if below.Kind() == reflect.Struct && linked[below] == "" {
			rows(out, below, prefix+key+item+".", comments)
		}
	}
}

// elem returns the type behind pointers, lists and maps, and what a list adds to the
// path.
func elem(t reflect.Type) (below reflect.Type, item string) {
	for {
		switch t.Kind() {
		case reflect.Slice:
			item = "[]"
			fallthrough
		case reflect.Pointer, reflect.Map:
			t = t.Elem()
		default:
			return t, item
		}
	}
}

// valueText returns what a key takes.
func valueText(f reflect.StructField) string {
	below, item := elem(f.Type)
	switch text := linked[below]; {
	case text != "":
		return text
	case below == reflect.TypeFor[raw.Hosts]():
		return "list or mapping"
	case below.Kind() == reflect.Struct && item != "":
		return "list of mappings"
	case below.Kind() == reflect.Struct:
		return "mapping"
	case item != "":
		return "list of texts"
	case f.Tag.Get("enum") != "":
		return "`" + strings.ReplaceAll(f.Tag.Get("enum"), ",", "`, `") + "`"
	case f.Tag.Get("range") != "":
		low, high, _ := strings.Cut(f.Tag.Get("range"), ",")
		return low + " to " + high
	case below.Kind() == reflect.Bool:
		return "`true`, `false`"
	}
	return "text"
}

// The lines of docs/configuration.md between which the key reference stands.
const (
	referenceBegin = "<!-- The tables below are generated from internal/config/internal/raw: go generate ./internal/config -->\n"
	referenceEnd   = "\n<!-- End of the generated tables -->\n"
)

// PutReference returns a document with the key reference between its markers.
func PutReference(doc, reference string) (string, error) {
	head, rest, ok := strings.Cut(doc, referenceBegin)
	_, tail, closed := strings.Cut(rest, referenceEnd)
	if !ok || !closed {
		return "", fmt.Errorf("the document has no line %q, or none %q after it", strings.TrimSpace(referenceBegin), strings.TrimSpace(referenceEnd))
	}
	return head + referenceBegin + reference + referenceEnd + tail, nil
}
