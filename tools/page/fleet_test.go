package page

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"proxyd/internal/testkit"
)

// Other hosts write their rows themselves: what stands there is text.
func TestFleetIsOnThePage(t *testing.T) {
	redis := testkit.StartRedis(t)
	w := newWorld(t, "fleet: {redis: \""+redis.URL()+"\", name: trading}\n")
	other := newWorld(t, "fleet: {redis: \""+redis.URL()+"\", name: trading}\n")
	b := load(t, w.Page)
	b.shows(10*time.Second, "main", "Fleet")
	b.shows(10*time.Second, "main", "2 processes")
	b.shows(time.Second, "main", fmt.Sprintf("pid %d", other.cmd.Process.Pid))
	b.shows(time.Second, "main", "this one")
	b.shows(time.Second, "main", "differs") // its file is another
	rows := "proxyd:trading:{fleet}:rows"
	now := time.Now().Add(time.Hour).UnixMicro()
	redis.Do("HSET", rows, "evil", `'{"process":"evil","host":"<img/src=x/onerror=document.title=1>","version":"<b>1</b>","lost":["okx</td><script>document.title=2</script>"]}'`)
	redis.Do("ZADD", rows+":heard", fmt.Sprint(now), "evil")
	b.shows(10*time.Second, "main", "<img/src=x/onerror=document.title=1>")
	b.shows(time.Second, "main", "okx</td><script>")
	b.shows(time.Second, "main", "1 with lost exchanges")
	if eval[bool](b, "document.querySelector('main img, main script, main b') !== null") {
		t.Error("what another host has written became an element")
	}
	redis.Kill()
	b.shows(10*time.Second, "main", "Redis is not used here")
	b.shows(10*time.Second, "main", "as they were last read")

	plain := newTab(t, w.Page)
	call(plain, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	plain.run(chromedp.Navigate(w.Page))
	if body := plain.text("body"); !strings.Contains(body, "fleet trading: 3 processes") || !strings.Contains(body, "<img/src=x/onerror") {
		t.Errorf("without script: %s", body)
	}
}
