// Command gen writes the JSON schema of the configuration from the raw types
// that viper decodes into, so that it cannot drift from them.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
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
			for _, file := range []string{"schema.json", "../../configs/proxyd.schema.json"} { // the second is for editors and those who read the examples
				err = errors.Join(err, os.WriteFile(file, pretty.Bytes(), 0o644)) //nolint:gosec // a public document
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
