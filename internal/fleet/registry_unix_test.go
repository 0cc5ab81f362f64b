//go:build !windows

package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// A host that is not heard any more is shown as gone, until it is started again. What it
// has written is not trusted.
func TestHostsThatAreGoneAreShown(t *testing.T) {
	t.Parallel()
	awaitLibrary(t)
	r := testkit.StartRedis(t)
	a := newMember(t, r.URL(), limit.Limits{Connects: 10, Per: time.Second}, func(o *Options) {
		o.Host = "a"
		o.Row = func() Host { return Host{Version: "v1", Lost: strings.Split(strings.Repeat("x ", 100), " ")} }
	})
	const rows = "proxyd:test:{fleet}:rows"
	put := func(process, row string, ago time.Duration) {
		t.Helper()
		r.Do("HSET", rows, process, "'"+row+"'")
		r.Do("ZADD", rows+":heard", fmt.Sprint(time.Now().Add(-ago).UnixMicro()), process)
	}
	put("a-old", `{"process":"a-old","host":"a"}`, time.Minute)
	put("b-1", `{"process":"b-1","host":"b"}`, time.Minute)
	put("c-1", `{"process":"c-1","host":"c\\u001b[31m`+strings.Repeat("c", 200)+`","pid":-4}`, time.Second)
	put("long", `{"process":"long","host":"`+strings.Repeat("d", rowBytes)+`"}`, time.Second)
	put("none", `{"process":1}`, time.Second)
	put("over", `{"process":"over","host":"e"}`, 2*rowTime)
	var hosts []Host
	testkit.Eventually(t, testkit.Patience, "three hosts", func() bool {
		hosts, _, _ = a.fleet.Hosts(t.Context())
		return len(hosts) == 3
	})
	if h := hosts[0]; h.Host != "a" || !h.Here || h.Gone || len(h.Lost) != mostLost || h.Version != "v1" {
		t.Errorf("%+v", h)
	}
	if h := hosts[1]; h.Host != "b" || !h.Gone || time.Since(h.LastSeen).Round(10*time.Second) != time.Minute {
		t.Errorf("%+v", h)
	}
	if h := hosts[2]; strings.Contains(h.Host, "\x1b") || len(h.Host) > 70 || h.PID != 0 || h.Gone {
		t.Errorf("%+v", h)
	}
	r.Kill()
	testkit.Eventually(t, testkit.Patience, "an error, with what was read last", func() bool {
		list, _, err := a.fleet.Hosts(t.Context())
		return err != nil && len(list) == 3 && list[0].Here && list[0].Alone && time.Since(list[0].LastSeen) < time.Second && !list[1].Alone
	})
}

// A host that was not asked for the others before Redis is lost knows them. One that has
// not reached Redis shows itself.
func TestHostsAreKnownWithoutAQuestionBefore(t *testing.T) {
	t.Parallel()
	awaitLibrary(t)
	r := testkit.StartRedis(t)
	r.Settle("test")
	members := newMembers(t, 2, r.URL(), window)
	rows := &members[0].fleet.rows
	testkit.Eventually(t, 2*firstRead, "the rows are read", func() bool {
		rows.mu.Lock()
		defer rows.mu.Unlock()
		return len(rows.list) == 2
	})
	r.Kill()
	testkit.Eventually(t, testkit.Patience, "both are shown, with the cause", func() bool {
		list, read, err := members[0].fleet.Hosts(t.Context())
		return err != nil && strings.Contains(err.Error(), "connection refused; see that Redis runs") && !read.IsZero() &&
			len(list) == 2 && list[0].Here && list[0].Alone && !list[1].Alone
	})
	late := newMember(t, r.URL(), window, func(o *Options) { o.Host = "late" })
	list, read, err := late.fleet.Hosts(t.Context())
	if err == nil || !read.IsZero() || len(list) != 1 || list[0].Host != "late" || !list[0].Here || !list[0].Alone || list[0].Gone {
		t.Errorf("%+v, read %v, %v", list, read, err)
	}
	r.StartWith("--requirepass", "secret")
	testkit.Eventually(t, testkit.Patience, "what Redis answers is the cause", func() bool {
		_, _, err := late.fleet.Hosts(t.Context())
		return err != nil && strings.Contains(err.Error(), "Redis: NOAUTH") && strings.Contains(err.Error(), "password in fleet.redis")
	})
}
