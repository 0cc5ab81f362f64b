package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/source"
	"proxyd/internal/upstream"
)

// newLists returns what knows the lists from URLs.
func (d *Daemon) newLists() *source.Lists {
	return source.New(source.Options{
		Fetch: (&source.Fetcher{}).Fetch,
		Set:   func() *upstream.Set { return d.snapshot.Load().Set() },
		Sources: func() []*config.ListSource {
			if snap := d.snapshot.Load(); snap != nil {
				return snap.Config().Sources()
			}
			return nil
		},
		Apply: d.applyList,
		Unkept: func(s *config.ListSource, err error) {
			if err == nil {
				d.log().Warn("lists from URLs are not kept", zap.String("list", s.Name), zap.String("next", "for a start without a network, name a directory: state_dir: /var/lib/proxyd"))
				return
			}
			d.log().Warn("a list from a URL cannot be kept", zap.String("list", s.Name), zap.Error(err), zap.String("next", "correct state_dir, or who may write there"))
		},
		Trouble: func(r source.Row) { d.journal.Add(listEvent(r, time.Now())) },
	})
}

// listsChanged starts the fetching of lists where the configuration in force has some.
func (d *Daemon) listsChanged() {
	d.lists.Changed()
	if d.startLists != nil && len(d.snapshot.Load().Config().Sources()) > 0 {
		d.startLists()
	}
}

// firstWait is how long a start waits for lists of which nothing is known. Whoever
// connects meanwhile is served after it.
const firstWait = 3 * time.Second

// firstLists fetches, before this process serves, the lists of which nothing is known, so
// that their pools do not begin without members.
func (d *Daemon) firstLists() {
	due := slices.DeleteFunc(d.snapshot.Load().Config().Sources(), func(s *config.ListSource) bool { return d.lists.Text(s) != nil })
	if len(due) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(d.fetching, firstWait)
	defer cancel()
	fresh, _ := d.lists.Refresh(ctx, d.snapshot.Load().Set(), due, false)
	if len(fresh) == 0 {
		return
	}
	if err := d.applyList(fresh); err != nil {
		d.log().Warn("lists", zap.Error(err))
	}
}

// withFresh fetches what a reload needs: all lists if an operator asks for it, and after a
// change of the file those that are new. It returns the configuration with them.
func (d *Daemon) withFresh(c *config.Config, prev *router.Router, by string, dryRun bool) (*config.Config, source.Fresh, []source.Problem, error) {
	due := c.Sources()
	if by == ByWatch {
		due = slices.DeleteFunc(due, func(s *config.ListSource) bool { return d.lists.Text(s) != nil || d.lists.InForce(s) })
	}
	if len(due) == 0 {
		return c, nil, nil, nil
	}
	set := prev.Set()
	if len(config.Diff(prev.Config(), c)) > 0 { // via may lead elsewhere
		other := *c // it is made the command's own there
		next, err := d.snapshotOf(&other, set)
		if err != nil {
			return nil, nil, nil, err
		}
		set = next.Set()
	}
	fresh, problems := d.lists.Refresh(d.fetching, set, due, dryRun)
	if len(fresh) == 0 {
		return c, nil, problems, nil
	}
	c, err := c.WithLists(d.lists.With(fresh))
	return c, fresh, problems, err
}

// withoutLists returns why a reload is refused that would leave a pool without the members
// of its list, as a file that is missing would; else what is to be said of lists that could
// not be fetched: the last good ones count.
func withoutLists(prev, next *config.Config, problems []source.Problem) (warnings []string, err error) {
	before := config.PoolsByName(prev)
	var refused []error
	for _, p := range next.Pools {
		old := before[p.Name]
		if !p.NoList || old != nil && old.NoList && old.Source.URL == p.Source.URL || len(p.Proxies) > 0 && (old == nil || old.List == "" || old.NoList) {
			continue
		}
		why := "it is not known"
		for _, failed := range problems {
			if failed.Source.Name == p.Source.Name && failed.Source.URL == p.Source.URL {
				why = failed.Err.Error()
			}
		}
		refused = append(refused, fmt.Errorf("list %s cannot be fetched from %s: %s; correct it, or try again later", p.Source.Name, p.Source.Shown, why))
	}
	for _, p := range problems {
		warnings = append(warnings, fmt.Sprintf("list %s could not be fetched from %s, and stays as it is: %s", p.Source.Name, p.Source.Shown, p.Err))
	}
	return warnings, errors.Join(refused...)
}

// applyList puts the configuration in force with lists that have been fetched, the rest of
// it as it was read: what the file on disk says now is for a reload of that.
func (d *Daemon) applyList(fresh source.Fresh) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if err := d.canChange(); err != nil {
		return err
	}
	if fresh = d.lists.Newer(fresh); len(fresh) == 0 { // a reload has fetched it meanwhile
		return nil
	}
	start, prev := time.Now(), d.snapshot.Load()
	c, err := prev.Config().WithLists(d.lists.With(fresh))
	if err != nil {
		return errors.New(errorLines(err)[0])
	}
	next, err := d.snapshotOf(c, prev.Set())
	if err != nil {
		return err
	}
	if err := holdBack(slices.Concat(router.NewlyDirect(prev, next), config.ShrunkLists(prev.Config(), c))); err != nil {
		return err
	}
	if err := d.descriptors.retry(func() error { return d.apply(prev, next) }); err != nil {
		return err
	}
	d.lists.Commit(fresh)
	defer d.lists.Keep(fresh)
	report := admin.Report{File: d.options.ConfigPath, Applied: true, Changes: config.Diff(prev.Config(), c), Warnings: d.warnings(next)}
	d.listApplied("list "+fresh.String(), start, report, d.leftAfter(prev, next, &report))
	return nil
}

// listApplied keeps and logs that a list was put in force. Whether the file is in force
// stays as it is.
func (d *Daemon) listApplied(by string, start time.Time, r admin.Report, left []leftTunnels) {
	if len(r.Changes) == 0 {
		return
	}
	file := *d.file.Load()
	if len(file.errors) == 0 {
		file.last = &admin.LastReload{Time: time.Now(), By: by, Report: r}
		d.metrics.Reloaded("applied", true, time.Now())
	}
	d.file.Store(&file)
	d.journal.Add(reloadEvent(d.fileName(), by, time.Since(start), r, false, left))
}

// takeLists puts in force, before this process serves, the lists of the one before it.
func (d *Daemon) takeLists(list []source.Kept) {
	if len(list) == 0 {
		return
	}
	d.lists.Import(list)
	prev := d.snapshot.Load()
	c, err := prev.Config().WithLists(d.lists.Text)
	if err != nil {
		d.log().Warn("upgrade", zap.NamedError("lists", err))
		return
	}
	next, err := d.snapshotOf(c, prev.Set())
	if err != nil {
		d.log().Warn("upgrade", zap.NamedError("lists", err))
		return
	}
	d.snapshot.Store(next)
	next.Set().Activate()
}

// listFindings returns the lists that cannot be updated.
func listFindings(rows []source.Row, now time.Time) (list []finding) {
	for i, r := range rows {
		if i == maxLines {
			break
		}
		if r.Problem == "" {
			continue
		}
		e := listEvent(r, now)
		list = append(list, finding{key: "list " + r.Source.Name, severity: e.Severity, since: r.Since, text: e.Text, hint: e.Hint})
	}
	return list
}

// listEvent returns why a list is not up to date, or that it is again.
func listEvent(r source.Row, now time.Time) event.Event {
	name := "list " + r.Source.Name
	switch {
	case r.Problem == "":
		return event.Event{Severity: event.Info, Type: event.ListStale, Text: name + " is up to date again, after " + printable.Span(now.Sub(r.Since))}
	case !r.Known:
		return event.Event{
			Severity: event.Error, Type: event.ListStale, Hint: "to fetch it at once: proxyd reload",
			Text: fmt.Sprintf("%s cannot be fetched from %s: %s; no list is known, and the pool has no member from it", name, r.Source.Shown, r.Problem),
		}
	}
	hint := "to fetch it at once: proxyd reload"
	if strings.Contains(r.Problem, ifMeant) { // a reload applies what is held back: never by a hint alone
		hint = "see what the provider serves before you do"
	}
	return event.Event{
		Severity: event.Warn, Type: event.ListStale, Hint: hint,
		Text: fmt.Sprintf("%s is not updated from %s: %s; that of %s with %s stays in force", name, r.Source.Shown, r.Problem,
			printable.Clock(r.Fetched, now), printable.Count(r.Members, "member", "members")),
	}
}

func listRows(rows []source.Row) (list []admin.List) {
	for _, r := range rows {
		list = append(list, admin.List{
			Name: r.Source.Name, From: r.Source.Shown, Known: r.Known, Members: r.Members, Fetched: r.Fetched, Success: r.Success, Problem: r.Problem, Since: r.Since, Next: r.Next,
		})
	}
	return list
}
