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
		for _, column := range append([]string{"environment", "line", "socks", "exec"}, refusals...) {
			part, _ := c.program(kind, column)
			if part != "" && !(column == "line" && part == kind) { // that is the environment's cell
				list = append(list, cell{Client: c.id, Kind: kind, Column: column})
			}
		}
	}
	return list
}

// chosen returns the clients of this run: CLIENT=names, or those of CLIENTS_LANGUAGES.
func chosen(t *testing.T, all []*client) (list []*client) {
	t.Helper()
	names, spoken := strings.Fields(os.Getenv("CLIENT")), strings.Fields(os.Getenv("CLIENTS_LANGUAGES"))
	for _, c := range all {
		if slices.Contains(names, c.id) || len(names) == 0 && slices.Contains(spoken, c.language) {
			list = append(list, c)
		}
	}
	if len(list) == 0 || len(names) > 0 && len(list) != len(names) {
		t.Fatalf("no such client among %q", names)
	}
	return list
}

// exceptions are the cells in which not all works that should, with the reason.
var exceptions = map[cell]string{
	{"urllib3", "rest", "exec"}:                "urllib3 takes no proxy from the environment, and exec does not change it",
	{"gobwas", "websocket", "exec"}:            "gobwas/ws connects by itself, and takes no proxy from the environment",
	{"tokio-tungstenite", "websocket", "exec"}: "tokio-tungstenite knows of no proxies",
	{"apache-httpclient", "rest", "exec"}:      "HttpClients.createDefault() does not read the properties of Java; createSystem() does",
}

// Promise (security): unmodified Python programs of cryptofeed, ccxt and other libraries reach their exchanges through the upstreams alone under proxyd exec; no name is looked up, nothing from ~/.netrc is sent.
func TestMatrix(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") == "" {
		t.Skip("run by interop/clients.sh")
	}
	detectNames(t)
	all := readClients(t)
	ran := chosen(t, all)
	buildClients(t, ran)
	outcomes := map[cell]outcome{}
	for _, o := range runTasks(t, tasksOf(ran)) {
		outcomes[o.Cell] = o
		run(t, o.Cell.String()+": "+o.Outcome, func(t *testing.T) { o.check(t) })
	}
	compareTables(t, all, ran, outcomes)
}

// tasksOf returns the outage, which takes longest, and then the cells.
func tasksOf(clients []*client) []task {
	var outage []string
	var list []task
	for _, c := range clients {
		if c.parts["feed"] != "" {
			outage = append(outage, c.id)
		}
		for _, one := range cellsOf(c) {
			list = append(list, task{Cell: one})
		}
	}
	if outage != nil {
		list = append([]task{{Outage: outage}}, list...)
	}
	return list
}

// check fails what must work and does not; all else is for the tables.
func (o outcome) check(t *testing.T) {
	must := o.Cell.Column == "line" || o.Cell.Column == "exec" || o.Cell.Column == "outage"
	reason, excepted := exceptions[o.Cell]
	switch {
	case excepted && o.Outcome == works:
		t.Errorf("works: remove the exception: %s", reason)
	case must && !excepted && !slices.Contains([]string{works, goesOn, ends, hangs}, o.Outcome), o.Outcome == "not run":
		t.Error(o.Output)
	case o.Lives && o.Outcome != goesOn:
		t.Errorf("should go on\n%s", o.Output)
	case o.Outcome == fails || os.Getenv("CLIENT") != "":
		fmt.Println("     " + o.Error)
	}
}

// runTasks gives the tasks to workers, and returns the outcomes in their order.
func runTasks(t *testing.T, tasks []task) (list []outcome) {
	t.Helper()
	outcomes := make([][]outcome, len(tasks))
	queue := make(chan int)
	var ended sync.WaitGroup
	for i := range min(len(tasks), runtime.GOMAXPROCS(0)+1) {
		ended.Go(func() { // ends when the queue is closed
			w := startWorker(t, i)
			defer w.stop()
			for n := range queue {
				outcomes[n] = w.run(tasks[n])
			}
		})
	}
	begin := time.Now()
	for n := range tasks {
		queue <- n
	}
	close(queue)
	ended.Wait()
	fmt.Printf("%d tasks in %v\n", len(tasks), time.Since(begin).Round(time.Second))
	return slices.Concat(outcomes...)
}

// worker is a process with a network of its own.
type worker struct {
	t        *testing.T
	cmd      *exec.Cmd
	tasks    *json.Encoder
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
	w.tasks, w.outcomes = json.NewEncoder(stdin), json.NewDecoder(read)
	w.close = func() { _ = stdin.Close(); _ = read.Close() }
	return w
}

func (w *worker) run(work task) (list []outcome) {
	err := fmt.Errorf("no worker")
	if w.cmd != nil {
		if err = w.tasks.Encode(work); err == nil {
			err = w.outcomes.Decode(&list)
		}
	}
	if err != nil {
		w.t.Errorf("%v: %v\n%s", work, err, w.log.String())
		return []outcome{{Cell: work.Cell, Outcome: "not run", Output: err.Error()}}
	}
	return list
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
