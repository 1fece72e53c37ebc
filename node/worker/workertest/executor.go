package workertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"holdfast/fsm"
	"holdfast/node/worker"
	"holdfast/node/worker/protocol"
)

// Book records which attempts live, over all nodes, and every overlap of two
// attempts of one task.
type Book struct {
	mu       sync.Mutex
	live     map[fsm.TaskID]protocol.Key
	starts   map[string]int // node and attempt
	overlaps []string
	started  int
}

// NewBook makes an empty book.
func NewBook() *Book {
	return &Book{live: map[fsm.TaskID]protocol.Key{}, starts: map[string]int{}}
}

func (b *Book) begin(node fsm.NodeID, key protocol.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.started++
	if other, runs := b.live[key.Task]; runs {
		b.overlaps = append(b.overlaps, fmt.Sprintf("%s: attempt %d on %s beside attempt %d", key.Task, key.Attempt, node, other.Attempt))
	}
	b.live[key.Task] = key
	name := fmt.Sprintf("%s/%s/%d", node, key.Task, key.Attempt)
	if b.starts[name]++; b.starts[name] > 1 {
		b.overlaps = append(b.overlaps, name+" was started twice")
	}
}

func (b *Book) end(key protocol.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live[key.Task] == key {
		delete(b.live, key.Task)
	}
}

// Live is the number of attempts that run now.
func (b *Book) Live() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.live)
}

// Started is the number of sandboxes ever started.
func (b *Book) Started() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.started
}

// Problems returns what went wrong so far.
func (b *Book) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.overlaps...)
}

// Script says what an attempt does: how long it runs by itself, how it ends
// then, how long it takes to die when it is killed, and whether it ignores
// SIGTERM.
type Script struct {
	Runs      time.Duration
	Exit      worker.Exit
	Dies      time.Duration
	Stubborn  bool
	StartFail error
}

// ErrCrashed is what a start gets in a process that has crashed.
var ErrCrashed = errors.New("this process has crashed")

// Executor is a worker.Executor that runs scripts.
type Executor struct {
	Node   fsm.NodeID
	Book   *Book
	Script func(protocol.Key) Script

	mu       sync.Mutex
	procs    map[*process]bool
	extended time.Duration
	crashed  bool
}

// Extend records the last extension.
func (e *Executor) Extend(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.extended = d
}

// Start begins a script.
func (e *Executor) Start(ctx context.Context, run worker.Run, stdout, _ io.Writer) (worker.Sandbox, error) {
	script := e.Script(run.Key)
	if script.StartFail != nil {
		return nil, script.StartFail
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &process{script: script, done: make(chan struct{}), key: run.Key, book: e.Book}
	e.mu.Lock()
	if e.crashed {
		// The process is gone with everything in it: what its goroutines still
		// do in this instant happens to nobody.
		e.mu.Unlock()
		return nil, ErrCrashed
	}
	e.Book.begin(e.Node, run.Key)
	if e.procs == nil {
		e.procs = map[*process]bool{}
	}
	e.procs[p] = true
	e.mu.Unlock()
	_, _ = fmt.Fprintf(stdout, "%s/%d\n", run.Key.Task, run.Key.Attempt)
	p.arm(script.Runs, script.Exit)
	return p, nil
}

// Crash ends every sandbox at once, as when the node's process dies and takes
// its sandboxes with it.
func (e *Executor) Crash() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.crashed = true
	for p := range e.procs {
		p.finish(worker.Exit{Reason: fsm.EndSignal, Signal: "SIGKILL"})
	}
}

type process struct {
	script Script
	key    protocol.Key
	book   *Book

	mu     sync.Mutex
	timer  *time.Timer
	killed bool
	over   bool
	exit   worker.Exit
	done   chan struct{}
}

func (p *process) arm(d time.Duration, exit worker.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	if d == 0 && !p.over {
		p.finishLocked(exit)
		return
	}
	p.timer = time.AfterFunc(d, func() { p.finish(exit) })
}

func (p *process) finish(exit worker.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finishLocked(exit)
}

func (p *process) finishLocked(exit worker.Exit) {
	if p.over {
		return
	}
	p.over, p.exit = true, exit
	if p.timer != nil {
		p.timer.Stop()
	}
	p.book.end(p.key)
	close(p.done)
}

func (p *process) Wait() worker.Exit {
	<-p.done
	return p.exit
}

func (p *process) Stop(grace time.Duration) {
	p.mu.Lock()
	killed := p.killed
	p.mu.Unlock()
	switch {
	case killed:
	case p.script.Stubborn:
		p.arm(grace+p.script.Dies, worker.Exit{Reason: fsm.EndSignal, Signal: "SIGKILL"})
	default:
		p.arm(p.script.Dies, worker.Exit{Reason: fsm.EndSignal, Signal: "SIGTERM"})
	}
}

func (p *process) Kill() {
	p.mu.Lock()
	killed := p.killed
	p.killed = true
	p.mu.Unlock()
	if !killed {
		p.arm(p.script.Dies, worker.Exit{Reason: fsm.EndSignal, Signal: "SIGKILL"})
	}
}

// Outputs keeps nothing but counts.
type Outputs struct{}

// Create returns a counter.
func (Outputs) Create(fsm.TaskID, uint32, int64) (worker.Output, error) { return &output{}, nil }

type output struct {
	mu  sync.Mutex
	sum worker.OutputSummary
}

func (o *output) Stdout() io.Writer { return counter{o, &o.sum.StdoutBytes} }
func (o *output) Stderr() io.Writer { return counter{o, &o.sum.StderrBytes} }
func (o *output) OnExceeded(func()) {}
func (o *output) Finish() worker.OutputSummary {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sum
}

type counter struct {
	o *output
	n *int64
}

func (c counter) Write(p []byte) (int, error) {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	*c.n += int64(len(p))
	return len(p), nil
}
