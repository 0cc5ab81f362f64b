//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// cellsOf returns the cells that a client has.
func cellsOf(c *client) (list []cell) {
	for _, kind := range []string{"rest", "websocket"} {
		for _, column := range []string{"environment", "line", "socks", "exec", "502", "403", "504"} {
			part, _ := c.program(kind, column)
			if part != "" && !(column == "line" && part == kind) { // that is the environment's cell
				list = append(list, cell{Client: c.id, Kind: kind, Column: column})
			}
		}
	}
	return list
}

// chosen returns the clients of this run: CLIENT=name, or those of CLIENTS_LANGUAGES.
func chosen(t *testing.T, all []*client) (list []*client) {
	t.Helper()
	spoken := strings.Fields(os.Getenv("CLIENTS_LANGUAGES"))
	for _, c := range all {
		if one := os.Getenv("CLIENT"); one == c.id || one == "" && slices.Contains(spoken, c.language) {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		t.Fatalf("no client %q", os.Getenv("CLIENT"))
	}
	return list
}

func TestMatrix(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") == "" {
		t.Skip("run by interop/clients.sh")
	}
	detectNames(t)
	var cells []cell
	for _, c := range chosen(t, readClients(t)) {
		cells = append(cells, cellsOf(c)...)
	}
	for _, o := range runCells(t, cells) {
		run(t, o.Cell.String()+": "+o.Outcome, func(t *testing.T) {
			if o.Outcome != works && slices.Contains([]string{"line", "exec"}, o.Cell.Column) {
				t.Error(o.Output)
			}
			if o.Outcome == fails {
				fmt.Println("     " + o.Error)
			}
		})
	}
}

// runCells gives the cells to workers, and returns the outcomes in their order.
func runCells(t *testing.T, cells []cell) []outcome {
	t.Helper()
	outcomes := make([]outcome, len(cells))
	queue := make(chan int)
	var ended sync.WaitGroup
	for i := range min(len(cells), runtime.GOMAXPROCS(0)+1) {
		ended.Go(func() { // ends when the queue is closed
			w := startWorker(t, i)
			defer w.stop()
			for n := range queue {
				outcomes[n] = w.run(cells[n])
			}
		})
	}
	begin := time.Now()
	for n := range cells {
		queue <- n
	}
	close(queue)
	ended.Wait()
	t.Logf("%d cells in %v", len(cells), time.Since(begin).Round(time.Second))
	return outcomes
}

// worker is a process with a network of its own.
type worker struct {
	t        *testing.T
	cmd      *exec.Cmd
	cells    *json.Encoder
	outcomes *json.Decoder
	close    func()
	log      testkit.Output
}

func startWorker(t *testing.T, number int) *worker {
	w := &worker{t: t}
	own := filepath.Join(dir, fmt.Sprint("worker-", number))
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Error(err)
		return w
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Error(err)
		return w
	}
	w.cmd = exec.Command(os.Args[0], "-test.run", "^TestWorker$", "-test.timeout", "20m")
	w.cmd.Env = append(os.Environ(), "INTEROP_WORKER=1", "INTEROP_DIR="+own)
	w.cmd.ExtraFiles = []*os.File{write}
	w.cmd.Stdout, w.cmd.Stderr = &w.log, &w.log
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := w.cmd.StdinPipe()
	if err == nil {
		err = w.cmd.Start()
	}
	_ = write.Close()
	if err != nil {
		t.Error(err)
		w.cmd = nil
		return w
	}
	w.cells, w.outcomes = json.NewEncoder(stdin), json.NewDecoder(read)
	w.close = func() { _ = stdin.Close(); _ = read.Close() }
	return w
}

func (w *worker) run(c cell) (o outcome) {
	err := fmt.Errorf("no worker")
	if w.cmd != nil {
		if err = w.cells.Encode(c); err == nil {
			err = w.outcomes.Decode(&o)
		}
	}
	if err != nil {
		w.t.Errorf("%s: %v\n%s", c, err, w.log.String())
		return outcome{Cell: c, Outcome: "not run", Output: err.Error()}
	}
	return o
}

func (w *worker) stop() {
	if w.cmd == nil {
		return
	}
	w.close()
	if err := w.cmd.Wait(); err != nil {
		w.t.Errorf("worker: %v\n%s", err, w.log.String())
	}
}
