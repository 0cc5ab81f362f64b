package main

import (
	_ "embed" // licenses
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
)

// licenses are the licences and notices of what is linked; a test writes them.
//
//go:generate go test -run LicensesAreThose . -update
//go:embed licenses.txt
var licenses string

func versionCommand() *cobra.Command {
	var format string
	var texts bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and the catalogue's date",
		Example: `  proxyd version --format json
  proxyd version --licenses`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if texts {
				_, err := io.WriteString(out, licenses)
				return err
			}
			if format == "json" {
				return json.NewEncoder(out).Encode(map[string]string{
					"version": version, "revision": revision(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "catalogue": catalog.Date(),
				})
			}
			_, err := io.WriteString(out, versionText())
			return err
		},
	}
	cmd.Flags().BoolVar(&texts, "licenses", false, "print the modules that the program contains, with their licences")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	return cmd
}

// versionText returns the version, the catalogue's date and the platform, a line each.
func versionText() string {
	return fmt.Sprintf("proxyd %s\ncatalogue %s\n%s %s/%s\n", version, catalog.Date(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// revision returns the commit that the binary was built from, "" if it is not known.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
