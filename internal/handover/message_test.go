//go:build unix

package handover

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// What the other process sends is checked before it is used.
func TestReceiveRejectsMalformedMessages(t *testing.T) {
	t.Parallel()
	frame := func(text, size, files uint32, body string) string {
		b := binary.BigEndian.AppendUint32(nil, text)
		b = binary.BigEndian.AppendUint32(b, size)
		return string(binary.BigEndian.AppendUint32(b, files)) + body
	}
	for name, c := range map[string]struct {
		sent, want string
		soft       bool
	}{
		"nothing":                         {"", io.EOF.Error(), false},
		"half a frame":                    {frame(2, 0, 0, "")[:5], io.ErrUnexpectedEOF.Error(), false},
		"half a body":                     {frame(2, 3, 0, "{}x"), io.ErrUnexpectedEOF.Error(), false},
		"no JSON":                         {frame(2, 0, 0, "xx"), "invalid character", false},
		"too much JSON":                   {frame(maxJSON+1, 0, 0, ""), "a message of 1048577 and 0 bytes", false},
		"too much data":                   {frame(2, maxData+1, 0, "{}"), "a message of 2 and 67108865 bytes", false},
		"too many descriptors":            {frame(2, 0, maxFiles+1, "{}"), "with 251 descriptors", false},
		"descriptors that did not arrive": {frame(2, 0, 3, "{}"), "0 of 3 descriptors arrived", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, fd, err := socketPair()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			theirs, err := takeConn(fd)
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			w := wire{conn: theirs.(*net.UnixConn)}
			w.setTimeout(testkit.Patience)
			if _, err := io.WriteString(ours, c.sent); err != nil {
				t.Fatal(err)
			}
			_ = ours.CloseWrite()
			_, _, _, err = w.receive()
			mustHave(t, err, c.want)
			if recoverable(err) != c.soft {
				t.Errorf("%v leaves the wire in order: %v", err, recoverable(err))
			}
		})
	}
}

// A batch is the sum of its items, no more and no less.
func TestSplitRejectsItemsThatDoNotFitBatch(t *testing.T) {
	t.Parallel()
	for want, items := range map[string][]sizes{
		"":                                {{1, 0}, {2, 0}},
		"a batch is more than its items":  {{1, 0}, {1, 0}},
		"items are more than the batch":   {{1, 0}, {3, 0}},
		"batch's items are more than the": {{3, 1}},
		"a batch's items are more":        {{-1, 0}, {4, 0}},
	} {
		got, err := split(message{Items: items}, []byte("abc"), nil)
		switch {
		case want != "":
			mustHave(t, err, want)
		case err != nil || len(got) != 2 || string(got[1].Data) != "bc":
			t.Errorf("%v, %v", got, err)
		}
	}
}

// A commit of another batch is none: the child takes nothing, and lets go.
func TestCommitOfAnotherBatchIsRejected(t *testing.T) {
	t.Parallel()
	child := successor(t, "takes", 0)
	items, far := goods(t, 1)
	child.setTimeout(testkit.Patience)
	err := child.send(message{Type: "batch", Batch: 1, Items: []sizes{{0, 2}}}, nil, items[0].Conns)
	if err == nil {
		_, _, err = child.expect("held")
	}
	if err == nil {
		err = child.send(message{Type: "commit", Batch: 2}, nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-child.exited:
	case <-time.After(testkit.Patience):
		t.Fatal("it lives on")
	}
	speak(items, "parent")
	for _, f := range far {
		if got := whole(t, f); !strings.HasPrefix(got, "parent") {
			t.Errorf("got %q", got)
		}
	}
}
