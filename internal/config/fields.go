package config

import (
	"reflect"
	"slices"
	"strings"

	"proxyd/internal/config/internal/raw"
)

// fieldsOf lists the keys of a raw type, those of embedded types too.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	out := map[string]reflect.StructField{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		if option == "squash" {
			for k, v := range fieldsOf(f.Type) {
				out[k] = v
			}
			continue
		}
		out[name] = f
	}
	return out
}

func hasField(t reflect.Type, key string) bool {
	_, ok := fieldsOf(t)[key]
	return ok
}

// structOf gives the struct behind pointers, nil if there is none.
func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	return t
}

func names(fields map[string]reflect.StructField) []string {
	var list []string
	for name := range fields {
		if name != raw.Short {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func aliasOf(fields map[string]reflect.StructField, key string) string {
	for name, f := range fields {
		if key != "" && f.Tag.Get("alias") == key {
			return name
		}
	}
	return ""
}
