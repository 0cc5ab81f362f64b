package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/testkit"
)

const (
	manyTunnels = 200
	manyEchoes  = 10
)

// Not parallel: it counts what the whole process has open.
//
// Promise (data path): tunnels leave no descriptor and no goroutine behind.
func TestManyTunnelsAtOnceLeaveNothingBehind(t *testing.T) {
	nothing := testkit.Count()
	t.Run("while the daemon runs", func(t *testing.T) {
		echo := testkit.NewTCP(t, testkit.Echo)
		all := ways(t, echo.Addr, "")
		yaml := loopback + "listen: [" // one listener for each way, so that any target leads there
		for i := range all {
			yaml += fmt.Sprintf("{address: \"127.0.0.%d:0\", use: %s}, ", i+1, all[i].yaml)
		}
		p := start(t, yaml+"]\n")
		p.waitLine(`"msg":"ready"`)
		c, _ := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: echo.Addr}) // all is started that will be
		_ = c.Close()
		testkit.Eventually(t, testkit.Patience, "all is quiet", func() bool { return p.line(`"msg":"tunnel",`) != "" && echo.Open() == 0 })
		before := testkit.Count()
		p.manyAtOnce(t, all, echo.Addr, manyTunnels, manyEchoes)
		before.WaitBack(t, 0)
		opened, ended := strings.Count(p.Log.String(), `"msg":"tunnel open"`), func() int { return strings.Count(p.Log.String(), `"msg":"tunnel",`) }
		testkit.Eventually(t, testkit.Patience, "a line for each end", func() bool { return ended() == opened })
		if want := 1 + manyTunnels; opened != want {
			t.Errorf("%d tunnels in the log, want %d", opened, want)
		}
	})
	nothing.WaitBack(t, 0)
}

// manyAtOnce opens n tunnels, in every protocol through every way, has them all
// open at once, sends through each and ends them in different manners.
func (p *proxyd) manyAtOnce(t *testing.T, all []way, exchange string, n, echoes int) {
	t.Helper()
	var opened, done sync.WaitGroup
	opened.Add(n)
	for i := range n {
		w, f := i%len(all), fronts[i/len(all)%len(fronts)]
		done.Go(func() {
			ask := f.Ask
			ask.Target, ask.Early = targetOf(f, all[w], exchange), "early"
			var c *testkit.Conn
			var reply testkit.Reply
			func() {
				defer opened.Done() // also when Open ends this goroutine
				c, reply = testkit.Open(t, p.Addrs[w], ask)
			}()
			if !reply.OK {
				t.Errorf("%s, %s: %v", all[w].scheme, f.name, reply)
				return
			}
			opened.Wait()
			c.Expect("early")
			for k := range echoes {
				text := fmt.Sprintf("tunnel %d, echo %d; %s", i, k, strings.Repeat(".", 37*i+k))
				c.Send(text)
				c.Expect(text)
			}
			switch i % 3 {
			case 0:
				c.CloseWrite()
				c.ExpectEOF()
			case 1:
				c.Reset()
			}
			_ = c.Close()
		})
	}
	done.Wait()
}
