package config

import (
	"cmp"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
)

// folderOf returns the folder at which the relative paths of a configuration begin:
// that of its file, absolute. It is "", the working directory, for the built-in
// defaults and for what comes through a pipe or a descriptor.
func folderOf(config string) string {
	if config == "" {
		return ""
	}
	dir := filepath.Dir(config)
	if st, err := os.Stat(config); err == nil && !st.Mode().IsRegular() || descriptors.MatchString(dir) {
		return ""
	}
	if absolute, err := filepath.Abs(dir); err == nil {
		return absolute
	}
	return dir
}

// descriptors matches the folders of /dev/stdin and of a shell's <(command).
var descriptors = regexp.MustCompile(`^/(dev|dev/fd|proc/[^/]+/fd)$`)

// inFolder returns a path, which begins at dir if it is relative. What is no path
// stays as it is.
func inFolder(dir, path string) string {
	if dir == "" || path == "" || filepath.IsAbs(path) || os.IsPathSeparator(path[0]) || strings.Contains(path, "://") {
		return path
	}
	return filepath.Join(dir, path)
}

// resolve is inFolder for the configuration, and remembers what was written.
func (r *references) resolve(path string) string {
	full := inFolder(r.folder, path)
	if full != path {
		r.relative[full] = path
	}
	return full
}

// resolveKeys resolves the paths of a raw value's keys that have the tag names:"file".
func (r *references) resolveKeys(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			r.resolveKeys(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			r.resolveKeys(v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			r.resolveKeys(v.MapIndex(k))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if v.Type().Field(i).Tag.Get("names") != "file" {
				r.resolveKeys(f)
			} else if !f.IsNil() {
				f.Elem().SetString(r.resolve(f.Elem().String()))
			}
		}
	default:
	}
}

// shown returns the path of a file for a message, as it is written, unless it could
// be a credential in the wrong place.
func (r *references) shown(path string) string {
	return filePath(cmp.Or(r.relative[path], path))
}

// unreadable reports a file that cannot be read.
func (r *references) unreadable(key, path string, err error) {
	hint := "create the file, or correct the path"
	switch {
	case r.relative[path] != "":
		hint += ", which begins at the folder of the configuration"
	case r.folder == "" && !filepath.IsAbs(path):
		hint += ", which begins at the working directory"
	}
	r.errorf(key, hint, "%s cannot be read: %s", r.shown(path), rootCause(err))
}

// filePath returns the path of a file for a message, unless it could be a
// credential in the wrong place.
func filePath(s string) string {
	if !filepath.IsAbs(s) && !strings.HasPrefix(s, ".") || strings.ContainsAny(s, "@|;, \t") || strings.Contains(s, "//") || strings.Count(s, ":") > 1 {
		return "the file"
	}
	return s
}
