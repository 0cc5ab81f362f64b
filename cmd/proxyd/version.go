package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
)

func versionCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version and the catalogue's date",
		Example: "  proxyd version --format json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if format == "json" {
				return json.NewEncoder(out).Encode(map[string]string{
					"version": version, "revision": revision(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "catalogue": catalog.Date(),
				})
			}
			_, err := io.WriteString(out, versionText())
			return err
		},
	}
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
