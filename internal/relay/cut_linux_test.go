package relay_test

import (
	"io"
	"testing"

	"proxyd/internal/relay"
)

// TestResetHeardByAWrite: the kernel hands the error of a reset out once. Here
// a write has got it, and the flow's read finds what looks like an end.
func TestResetHeardByAWrite(t *testing.T) {
	for _, k := range allKinds {
		t.Run(k.String(), func(t *testing.T) {
			client, nearClient := pair(t, k.client)
			nearServer, server := pair(t, k.server)
			reset(client)
			eventually(t, "a write hears of the reset", func() bool {
				_, err := bottom(nearClient).Write([]byte("x"))
				return isReset(err)
			})
			f := relay.NewEngine().Start(nearClient, nearServer, nil, nil, relay.Options{})
			if _, err := io.Copy(io.Discard, server); !isReset(err) {
				t.Errorf("the server sees %v, want a reset", err)
			}
			_ = server.Close()
			if s := f.Wait(); s.Reason != relay.ReasonReset || s.ClosedBy != relay.Client {
				t.Errorf("got %+v", s)
			}
		})
	}
}
