package catalog

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"

	"proxyd/internal/target"
)

// mostOverlayRows bounds an overlay; the embedded data has a fraction of it.
const mostOverlayRows = 20_000

// Overlay returns the embedded catalogue with the rows of text, which has the
// columns of hosts.csv, laid over it: a host that it lists is replaced, any
// other is added, and so is an exchange that it lacks. A sixth column, sessions,
// says whether the row's exchange closes: closes or always, or nothing for what is
// known of it. The errors name the line; all of them are returned, joined.
func Overlay(text []byte) (*Catalog, error) {
	rows, err := overlayRows(bytes.TrimPrefix(text, []byte("\ufeff")))
	if err != nil {
		return nil, err
	}
	c, err := load(rows)
	if err != nil {
		return nil, err
	}
	c.overlay = string(text)
	return c, nil
}

func overlayRows(text []byte) ([]hostRow, error) {
	r := csv.NewReader(bytes.NewReader(text))
	r.Comment = '#'
	r.FieldsPerRecord = -1
	r.TrimLeadingSpace = true
	var rows []hostRow
	var errs []error
	first, sessions := map[string]int{}, map[string]string{}
	list, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	header := ""
	if len(list) > 0 {
		header = strings.Join(list[0], ",")
	}
	if header != hostsHeader && header != overlayHeader {
		return nil, errors.New("the first line must be " + hostsHeader + ", or " + overlayHeader)
	}
	if len(list) > mostOverlayRows {
		return nil, fmt.Errorf("has more than %d rows", mostOverlayRows)
	}
	for i, fields := range list[1:] {
		row, err := overlayRow(fields, header)
		if at, twice := first[row.host.Name]; err == nil && twice {
			err = fmt.Errorf("%s is listed by row %d too", row.host.Name, at)
		}
		if was := sessions[row.exchange]; err == nil && row.sessions != "" {
			if was != "" && was != row.sessions {
				err = fmt.Errorf("%s has the sessions %s in another row", row.exchange, was)
			}
			sessions[row.exchange] = row.sessions
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("row %d: %w", i+1, err))
			continue
		}
		first[row.host.Name] = i + 1
		rows = append(rows, row)
	}
	return rows, errors.Join(errs...)
}

// overlayRow parses one row of the user's.
func overlayRow(f []string, header string) (hostRow, error) {
	if want := strings.Count(header, ",") + 1; len(f) != want {
		return hostRow{}, fmt.Errorf("has %d columns, want %d (%s)", len(f), want, header)
	}
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	id, ok := Embedded().Resolve(f[0])
	if !ok {
		id = lower(f[0])
	}
	if strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || id == "" {
		return hostRow{}, errors.New("the exchange must be of letters, digits and _")
	}
	p, err := target.ParsePattern(f[1])
	if err != nil || p.Kind != target.Exact && p.Kind != target.Wildcard {
		return hostRow{}, errors.New("the host must be a name, or *.name, without scheme and port")
	}
	kind, err := ParseKind(f[2])
	if err != nil {
		return hostRow{}, err
	}
	if !slices.Contains([]string{"live", "test"}, f[3]) {
		return hostRow{}, errors.New("env must be live or test")
	}
	row := hostRow{exchange: id, host: Host{Name: p.String(), Kind: kind, Env: f[3]}}
	if len(f) > 5 {
		row.sessions = f[5]
	}
	if !slices.Contains([]string{"", SessionsAlways, SessionsClose}, row.sessions) {
		return hostRow{}, errors.New("sessions must be closes, always or nothing")
	}
	return row, nil
}
