// Command gen writes the JSON schema of the configuration, and the key reference in
// docs/configuration.md, from the raw types that viper decodes into, so that they
// cannot drift from them.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"proxyd/internal/config/internal/schema"
)

const (
	types    = "internal/raw"
	document = "../../docs/configuration.md"
)

func main() {
	if err := errors.Join(writeSchema(), writeReference()); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func writeSchema() error {
	out, err := schema.Generate(types)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err = json.Indent(&pretty, out, "", "  "); err != nil {
		return err
	}
	pretty.WriteByte('\n')
	for _, file := range []string{"schema.json", "../../configs/proxyd.schema.json"} { // the second is for editors and those who read the examples
		err = errors.Join(err, os.WriteFile(file, pretty.Bytes(), 0o644)) //nolint:gosec // a public document
	}
	return err
}

func writeReference() error {
	reference, err := schema.Reference(types)
	if err != nil {
		return err
	}
	doc, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	text, err := schema.PutReference(string(doc), reference)
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	return os.WriteFile(document, []byte(text), 0o644) //nolint:gosec // a public document
}
