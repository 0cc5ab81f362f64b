package config

import _ "embed"

//go:generate go run ./gen

//go:embed schema.json
var schemaJSON []byte

// Schema is the JSON schema of the configuration file. It is generated from the
// types that the file is decoded into.
func Schema() []byte { return schemaJSON }
