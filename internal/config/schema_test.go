package config_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/config/internal/schema"
)

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	fresh, err := schema.Generate("internal/raw")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Compact(&got, config.Schema()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(got.Bytes()), fresh) {
		t.Error("schema.json is not what the types give; run: make schema")
	}
	for _, key := range []string{`"listen"`, `"exchanges"`, `"timeout_seconds"`, `"round_robin"`} {
		if !bytes.Contains(fresh, []byte(key)) {
			t.Errorf("the schema lacks %s", key)
		}
	}
}
