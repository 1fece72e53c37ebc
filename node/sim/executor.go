package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"holdfast/chaos/history"
	"holdfast/fsm"
	"holdfast/node/worker"
	"holdfast/node/worker/protocol"
)

// sandboxes are a machine's. They outlive the process that started them for a
// moment, and stay frozen for nobody: when the process stands still, its
// dead-man's handle is what ends them.
type sandboxes struct {
	host *host

	mu   sync.Mutex
	all  map[*sandbox]bool // guarded by mu
	none chan struct{}     // guarded by mu: closed when there are none; nil = there are
}

// executor is one process's way to its machine's sandboxes.
type executor struct {
	p *proc

	mu   sync.Mutex
	fuse *time.Timer // guarded by mu: the dead-man's handle
}

// script is what an attempt does, drawn from the seed and its token.
type script struct {
	runs, dies time.Duration
	code       int32
	stubborn   bool
}

func (w *World) script(key protocol.Key) script {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%d\n", key.Task, key.Attempt)
	r := rand.New(rand.NewPCG(w.cfg.Seed, h.Sum64()))
	s := script{runs: time.Duration(r.ExpFloat64() * float64(w.cfg.TaskMean)), stubborn: r.IntN(4) == 0,
		dies: time.Duration(r.Int64N(int64(w.cfg.Lease / 30)))}
	if r.IntN(8) == 0 { // long enough to meet a lost lease
		s.runs += time.Duration(float64(w.cfg.Lease) * 3 * r.Float64())
	}
	if r.IntN(5) == 0 {
		s.code = 1
	}
	return s
}

// Start begins a sandbox.
func (e *executor) Start(ctx context.Context, run worker.Run, stdout, _ io.Writer) (worker.Sandbox, error) {
	p := e.p
	// A process that stands still starts nothing.
	if err := p.host.w.net.awake(ctx, p.host.id); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &sandbox{p: p, key: run.Key, name: run.Spec.Name, script: p.host.w.script(run.Key), done: make(chan struct{})}
	if !p.host.sandboxes.add(s) {
		return nil, errPowerLost
	}
	_, _ = io.WriteString(stdout, s.token()+"\n")
	s.arm(s.script.runs, worker.Exit{Reason: fsm.EndExit, Code: s.script.code}, true)
	return s, nil
}

// Extend rewinds the dead-man's handle, which is a little longer than the
// worker's own deadline (see node's executor).
func (e *executor) Extend(d time.Duration) {
	late := e.p.host.w.cfg.Lease / 12
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fuse != nil {
		e.fuse.Stop()
	}
	e.fuse = time.AfterFunc(d+late, func() { e.p.host.sandboxes.kill(e.p) })
}

func (e *executor) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fuse != nil {
		e.fuse.Stop()
	}
}

func (s *sandboxes) add(b *sandbox) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.p.ctx.Err() != nil {
		return false
	}
	if s.all == nil {
		s.all = map[*sandbox]bool{}
	}
	s.all[b] = true
	if s.none == nil {
		s.none = make(chan struct{})
	}
	s.host.w.ledger.begin(fsm.NodeID(s.host.id), b.key)
	s.host.w.history.effect(b.name, b.token(), history.Begin)
	return true
}

func (s *sandboxes) remove(b *sandbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, b)
	if len(s.all) == 0 && s.none != nil {
		close(s.none)
		s.none = nil
	}
}

// kill ends the sandboxes of one process, or of all (nil).
func (s *sandboxes) kill(p *proc) {
	s.mu.Lock()
	var doomed []*sandbox
	for b := range s.all {
		if p == nil || b.p == p {
			doomed = append(doomed, b)
		}
	}
	s.mu.Unlock()
	for _, b := range doomed {
		b.kill()
	}
}

// vanish ends all at once: the power is gone.
func (s *sandboxes) vanish() {
	s.mu.Lock()
	var doomed []*sandbox
	for b := range s.all {
		doomed = append(doomed, b)
	}
	s.mu.Unlock()
	for _, b := range doomed {
		b.end(worker.Exit{Reason: fsm.EndSignal, Signal: "SIGKILL"}, false)
	}
}

// clear ends what an earlier process has left, and returns when it is gone: a
// node does that before it registers.
func (s *sandboxes) clear() {
	s.kill(nil)
	s.mu.Lock()
	none := s.none
	s.mu.Unlock()
	if none != nil {
		<-none
	}
}

// sandbox is one started attempt.
type sandbox struct {
	p      *proc
	key    protocol.Key
	name   string // of the task
	script script

	mu     sync.Mutex
	timer  *time.Timer // guarded by mu
	killed bool        // guarded by mu
	over   bool        // guarded by mu
	exit   worker.Exit
	done   chan struct{}
}

// token is what the attempt calls itself; no two starts have the same.
func (s *sandbox) token() string {
	return fmt.Sprintf("%s/%d/%s/%d", s.key.Task, s.key.Attempt, s.p.host.id, s.p.run)
}

func (s *sandbox) arm(d time.Duration, exit worker.Exit, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(d, func() { s.end(exit, own) })
}

func (s *sandbox) end(exit worker.Exit, own bool) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	s.over, s.exit = true, exit
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.p.host.w.ledger.finish(fsm.NodeID(s.p.host.id), s.key, own, exit.Code, s.token()+"\n")
	if own {
		s.p.host.w.history.effect(s.name, s.token(), history.End)
	}
	s.p.host.sandboxes.remove(s)
	close(s.done)
}

// Wait returns when the sandbox is gone.
func (s *sandbox) Wait() worker.Exit {
	<-s.done
	return s.exit
}

// Stop asks the command to end. A process that stands still asks nothing, so
// the wish waits.
func (s *sandbox) Stop(grace time.Duration) {
	s.p.whenAwake(func() {
		s.mu.Lock()
		killed := s.killed
		s.mu.Unlock()
		switch {
		case killed:
		case s.script.stubborn:
			s.arm(grace+s.script.dies, worker.Exit{Reason: fsm.EndSignal, Signal: "SIGKILL"}, false)
		default:
			s.arm(s.script.dies, worker.Exit{Reason: fsm.EndSignal, Signal: "SIGTERM"}, false)
		}
	})
}

// Kill ends it.
func (s *sandbox) Kill() { s.p.whenAwake(s.kill) }

func (s *sandbox) kill() {
	s.mu.Lock()
	killed := s.killed
	s.killed = true
	s.mu.Unlock()
	if !killed {
		s.arm(s.script.dies, worker.Exit{Reason: fsm.EndSignal, Signal: "SIGKILL"}, false)
	}
}

// outputs keep the tail of what an attempt writes.
type outputs struct{}

func (outputs) Create(fsm.TaskID, uint32, int64) (worker.Output, error) { return &output{}, nil }

type output struct {
	mu  sync.Mutex
	sum worker.OutputSummary
}

func (o *output) Stdout() io.Writer { return o }
func (o *output) Stderr() io.Writer { return o }
func (o *output) OnExceeded(func()) {}
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sum.StdoutBytes += int64(len(p))
	o.sum.Tail = append(o.sum.Tail, p...)
	return len(p), nil
}

func (o *output) Finish() worker.OutputSummary {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sum
}
