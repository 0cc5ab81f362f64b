// Command gen writes the JSON schema of the configuration from the raw types
// that viper decodes into, so that it cannot drift from them.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"proxyd/internal/config/internal/schema"
)

func main() {
	out, err := schema.Generate("internal/raw")
	if err == nil {
		var pretty bytes.Buffer
		if err = json.Indent(&pretty, out, "", "  "); err == nil {
			pretty.WriteByte('\n')
			err = os.WriteFile("schema.json", pretty.Bytes(), 0o644) //nolint:gosec // a public document
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
