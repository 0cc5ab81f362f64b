//go:build interop

package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"proxyd/internal/testkit"
)

// runTasks gives the tasks to workers, and returns the outcomes in their order, and
// what went wrong with the workers themselves.
func runTasks(tasks []task) (list []outcome, err error) {
	outcomes := make([][]outcome, len(tasks))
	queue := make(chan int)
	errs := make([]error, min(len(tasks), runtime.GOMAXPROCS(0)+1))
	var ended sync.WaitGroup
	for i := range errs {
		ended.Go(func() { // ends when the queue is closed
			var w *worker
			for n := range queue {
				if w == nil {
					w = startWorker(i)
				}
				if outcomes[n] = w.run(tasks[n]); w.err != nil { // the next task gets another
					errs[i] = errors.Join(errs[i], w.stop())
					w = nil
				}
			}
			if w != nil {
				errs[i] = errors.Join(errs[i], w.stop())
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
	return slices.Concat(outcomes...), errors.Join(errs...)
}

// worker is a process with a network of its own.
type worker struct {
	cmd      *exec.Cmd // nil if it did not start
	tasks    *json.Encoder
	outcomes *json.Decoder
	close    func()
	log      testkit.Output
	err      error // no further task can be run
}

func startWorker(number int) *worker {
	w := &worker{}
	own := filepath.Join(dir, fmt.Sprint("worker-", number))
	if w.err = os.MkdirAll(own, 0o755); w.err != nil {
		return w
	}
	read, write, err := os.Pipe()
	if err != nil {
		w.err = err
		return w
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestWorker$", "-test.timeout", "20m")
	cmd.Env = append(os.Environ(), "INTEROP_WORKER=1", "INTEROP_DIR="+own)
	cmd.ExtraFiles = []*os.File{write}
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.WaitDelay = workerEnd // what a program left behind may hold its output
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		w.err = err
		return w
	}
	w.cmd, w.tasks, w.outcomes = cmd, json.NewEncoder(stdin), json.NewDecoder(read)
	w.close = func() { _ = stdin.Close(); _ = read.Close() }
	return w
}

// workerEnd is how long a worker may take to end.
const workerEnd = 30 * time.Second

func (w *worker) run(work task) (list []outcome) {
	if w.err == nil {
		if w.err = w.tasks.Encode(work); w.err == nil {
			w.err = w.outcomes.Decode(&list)
		}
	}
	if w.err == nil {
		return list
	}
	cells := []cell{work.Cell}
	if work.Outage != nil {
		cells = nil
		for _, id := range work.Outage {
			cells = append(cells, cell{Client: id, Kind: "websocket", Column: "outage"})
		}
	}
	list = nil
	for _, c := range cells {
		list = append(list, outcome{Cell: c, Outcome: notRun, Output: w.err.Error()})
	}
	return list
}

// stop ends a worker, and returns an error if it has failed.
func (w *worker) stop() error {
	if w.cmd == nil {
		return w.err
	}
	w.close()
	kill := time.AfterFunc(workerEnd, func() { _ = w.cmd.Process.Signal(syscall.SIGABRT) }) // it prints its stacks
	defer kill.Stop()
	if err := errors.Join(w.err, w.cmd.Wait()); err != nil {
		return fmt.Errorf("worker: %w\n%s", err, w.log.String())
	}
	return nil
}
