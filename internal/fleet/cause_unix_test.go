//go:build !windows

package fleet

import (
	"strings"
	"testing"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// shows waits until the state has a reason and an advice with these words.
func (m *member) shows(t *testing.T, why, advice string) {
	t.Helper()
	testkit.Eventually(t, testkit.Patience, why+"; "+advice, func() bool {
		s := m.fleet.State()
		return !s.Used && strings.Contains(s.Why, why) && strings.Contains(s.Advice, advice)
	})
	if why := m.fleet.State().Why; strings.ContainsAny(why, "@\x1b") || strings.Contains(why, "script:") {
		t.Errorf("the reason has parts for the authors of scripts only: %q", why)
	}
}

// Why Redis is not used is what its last answer says, not what the first one said, and
// what to do fits it.
func TestReasonIsTheLastOne(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	m := newMembers(t, 1, r.URL(), limit.Limits{MaxConnections: 3})[0]
	r.Kill()
	m.shows(t, "connection refused", "see that Redis runs")
	r.StartWith("--requirepass", "secret")
	m.shows(t, "NOAUTH", "password in fleet.redis")
	r.Kill()
	m.shows(t, "connection refused", "see that Redis runs")
	r.StartWith("--maxmemory", "1")
	m.shows(t, "OOM", "maxmemory")
	r.Kill()
	r.StartWith("--replicaof", "127.0.0.1", "1")
	m.shows(t, "READONLY", "master")
}

func TestAdviceFitsTheReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, command, why, advice string }{
		{"a user without a command", "ACL SETUSER default -zadd", "can't run this command", "rights"},
		{"a user without the scripts", "ACL SETUSER default -evalsha -eval", "NOPERM", "rights"},
		{"a user without the keys", "ACL SETUSER default resetkeys", "NOPERM", "rights"},
		{"too few replicas", "CONFIG SET min-replicas-to-write 1", "NOREPLICAS", "replicas"},
		{"another password", "CONFIG SET requirepass other", "WRONGPASS", "password in fleet.redis"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testkit.StartRedis(t)
			r.Settle("test")
			if answer := r.Do(c.command); answer != "+OK\r\n" {
				t.Fatal(answer)
			}
			newMember(t, "redis://:secret@"+r.Addr, window, nil).shows(t, c.why, c.advice)
		})
	}
}
