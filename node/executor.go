package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/fsm"
	"holdfast/node/worker"
	"holdfast/sandbox"
)

// executor runs attempts in this host's sandboxes.
type executor struct {
	runtime *sandbox.Runtime
	// late is how much longer than the worker's own deadline the sandboxes
	// hold: the worker, if it can, ends them in good order first.
	late time.Duration
}

// Start starts an attempt's command.
func (e executor) Start(ctx context.Context, run worker.Run, stdout, stderr io.Writer) (worker.Sandbox, error) {
	s := run.Spec
	spec := sandbox.Spec{
		ID:      fmt.Sprintf("%s-%d", run.Key.Task, run.Key.Attempt),
		Command: s.Command, Env: s.Env, WorkDir: s.WorkDir, Stdin: s.Stdin,
		// The run timeout is the worker's: it knows the grace.
		Limits: sandbox.Limits{
			MemoryBytes: int64(s.Shape.MemoryBytes), CPUMillis: int64(s.Shape.CPUMillis), PIDs: int64(s.PIDs), CPUTime: s.CPUTimeLimit,
		},
	}
	if s.IO != nil {
		spec.Limits.IOWeight, spec.Limits.IOReadBPS, spec.Limits.IOWriteBPS = int64(s.IO.Weight), s.IO.ReadBPS, s.IO.WriteBPS
	}
	if s.Network == fsm.NetworkNone {
		spec.Network = sandbox.NetworkNone
	}
	for _, x := range s.Secrets {
		spec.Secrets = append(spec.Secrets, sandbox.Secret{Name: x.Name, Value: x.Value})
	}
	if s.Scratch != nil {
		spec.Scratch = &sandbox.Scratch{Target: s.Scratch.Target, Bytes: s.Scratch.Bytes, Inodes: int64(s.Scratch.Inodes)}
	}
	for _, m := range s.Mounts {
		spec.Mounts = append(spec.Mounts, sandbox.Mount{Source: m.Source, Target: m.Target, Writable: m.Writable})
	}
	// The context ends the start alone, not the sandbox: the worker owns its
	// life from then on.
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	sb, err := e.runtime.Start(live, spec, sandbox.Streams{Stdout: stdout, Stderr: stderr})
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	if !stop() { // ctx ended while it started
		<-sb.Done()
		return nil, ctx.Err()
	}
	return running{sb, cancel}, nil
}

// Extend keeps the sandboxes alive with the lease. When this process is
// stopped and cannot kill them, they end by themselves, before anybody else is
// given their tasks.
func (e executor) Extend(d time.Duration) { e.runtime.Extend(d + e.late) }

type running struct {
	*sandbox.Sandbox
	cancel context.CancelFunc
}

func (r running) Kill() { r.Sandbox.Kill(sandbox.EndCancelled) }

func (r running) Stop(grace time.Duration) { r.Sandbox.Stop(sandbox.EndCancelled, grace) }

var endReasons = map[sandbox.EndReason]fsm.EndReason{
	sandbox.EndExit: fsm.EndExit, sandbox.EndSignal: fsm.EndSignal, sandbox.EndTimeout: fsm.EndTimeout,
	sandbox.EndOutOfMemory: fsm.EndOutOfMemory, sandbox.EndCancelled: fsm.EndCancelled, sandbox.EndLost: fsm.EndLost,
	sandbox.EndShutdown: fsm.EndShutdown, sandbox.EndStartFailed: fsm.EndStartFailed,
	sandbox.EndCPUTime: fsm.EndCPUTime, sandbox.EndDiskLimit: fsm.EndDiskLimit,
}

func (r running) Wait() worker.Exit {
	defer r.cancel()
	return exitOf(r.Sandbox.Wait())
}

func exitOf(res sandbox.Result) worker.Exit {
	reason, ok := endReasons[res.Reason]
	if !ok {
		reason = fsm.EndLost
	}
	exit := worker.Exit{
		Reason: reason, Signal: res.Signal, Message: res.Message,
		CPUTime: res.Usage.CPU, MemoryPeakBytes: uint64(max(0, res.Usage.MemoryPeakBytes)), Weaker: res.Weaker, NotEnforced: res.NotEnforced,
	}
	if reason == fsm.EndExit {
		exit.Code = int32(res.ExitCode)
	}
	return exit
}

// proofPatience bounds the proof of isolation at start, on a busy host too.
const proofPatience = 30 * time.Second

// startSandboxes prepares this host to run tasks. A host that cannot isolate
// runs none, and says why; what it may lack nevertheless, the configuration
// names one by one.
func (n *Node) startSandboxes() error {
	n.proved = make(chan struct{})
	if n.parts.executor != nil {
		n.isolates.Store(true)
		close(n.proved)
		return nil
	}
	name := n.cfg.Cgroup
	if name == "" {
		name = n.id[:12] // several nodes may share a host
	}
	warm := n.warmMax()
	rt, err := sandbox.New(sandbox.Config{
		CgroupParent: name, Warm: min(1, warm), WarmMax: warm, Root: n.cfg.Sandbox.Root, AllowMissing: n.cfg.Sandbox.AllowMissing,
		Logger: n.log.Named("sandbox"),
	})
	if err != nil {
		return fmt.Errorf("prepare sandboxes: %w", err)
	}
	n.registry.MustRegister(sandboxMetrics(rt)...)
	if removed, err := rt.RemoveStale(); err != nil {
		n.log.Warn("remains of an earlier run could not be removed", "error", err)
	} else if removed > 0 {
		n.log.Info("removed what an earlier run left", "attempts", removed)
	}
	n.sandbox = rt
	n.weaker = rt.Weaker()
	n.tellWeaker()
	// Beside the rest of the start, which waits for an election anyway.
	n.work.Go(func() {
		defer close(n.proved)
		n.prove(rt)
	})
	return nil
}

// tellWeaker records what this node's sandboxes do without: that is an event
// for whoever answers for the cluster, and not only for who reads the log.
func (n *Node) tellWeaker() {
	for _, wall := range n.weaker {
		n.log.Warn("this host lacks a wall of the sandbox, and the configuration allows it: tasks here run with weaker isolation", "missing", wall)
		n.audit.Note("node:"+n.id, "", "sandbox.weaker", wall, "allowed by sandbox.allow_missing")
	}
}

// prove tries to get out of a sandbox before this node says that it can
// isolate. A host that cannot takes no tasks, and says why.
func (n *Node) prove(rt *sandbox.Runtime) {
	err := rt.Check()
	if err == nil {
		ctx, cancel := context.WithTimeout(n.ctx, proofPatience)
		_, err = rt.Prove(ctx)
		cancel()
	}
	var cannot *sandbox.ErrCannotIsolate
	switch {
	case err == nil:
		n.isolates.Store(true)
	case n.ctx.Err() != nil:
	case errors.As(err, &cannot):
		n.log.Error("this host cannot isolate tasks, so that this node runs none", "reason", cannot.Reason, "remedy", cannot.Remedy)
	default:
		n.log.Error("this node runs no tasks: the proof of its isolation failed", "error", err)
	}
}
