package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"holdfast/chaos/bench/figures"
	"holdfast/chaos/bench/proc"
)

func runDev(ctx context.Context, b *bench) error {
	b.set.Define(
		figures.Figure{ID: "dev-ready", What: "holdfast dev, new data folder: ready", Unit: "s", Stat: figures.Median, Bound: figures.AtMost, Target: 1},
		figures.Figure{ID: "dev-again", What: "holdfast dev, started again: ready", Unit: "s", Stat: figures.Median, Bound: figures.AtMost, Target: 1},
		figures.Figure{ID: "dev-cpu", What: "holdfast dev, idle: CPU, part of a core", Unit: "%", Stat: figures.Median, Bound: figures.AtMost, Target: 1},
		figures.Figure{ID: "dev-memory", What: "holdfast dev, idle: memory of all its processes (PSS)", Unit: "MiB", Stat: figures.Median, Bound: figures.AtMost, Target: 60},
		figures.Figure{ID: "dev-rss", What: "- the same, shared pages counted for each (RSS)", Unit: "MiB", Stat: figures.Median},
	)
	for range b.repeat {
		dir, err := os.MkdirTemp(b.work, "dev-")
		if err != nil {
			return err
		}
		for _, id := range []string{"dev-ready", "dev-again"} {
			if err := b.dev(ctx, dir, id); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// dev starts the one-node cluster, waits until it says that it is ready, and
// lets it idle the first time.
func (b *bench) dev(ctx context.Context, dir, id string) (err error) {
	cmd := exec.Command(b.binary, "dev", "--data", filepath.Join(dir, "data"), "--json")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout = in
	begun := time.Now()
	p, err := proc.Start(cmd)
	_ = in.Close()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop(10*time.Second)) }()
	if err := out.SetReadDeadline(begun.Add(time.Minute)); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for dev to be ready: %w\n%s", err, p.Output())
	}
	took := time.Since(begun)
	b.say("dev was ready after %v", took.Round(time.Millisecond))
	if err := b.set.Add(id, took.Seconds()); err != nil || id != "dev-ready" {
		return err
	}
	return b.idle(ctx, p)
}

// idle measures a process tree that has nothing to do.
func (b *bench) idle(ctx context.Context, p *proc.Process) error {
	calm, span := 5*time.Second, 20*time.Second
	if b.quick {
		calm, span = time.Second, 3*time.Second
	}
	if err := pause(ctx, calm); err != nil {
		return err
	}
	before, err := proc.Tree(p.PID())
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := pause(ctx, span); err != nil {
		return err
	}
	after, err := proc.Tree(p.PID())
	if err != nil {
		return err
	}
	cpu := after.CPU + after.ChildrenCPU - before.CPU - before.ChildrenCPU
	b.set.Note("dev-memory", "%d processes", after.Processes)
	return errors.Join(
		b.set.Add("dev-cpu", 100*cpu.Seconds()/time.Since(begun).Seconds()),
		b.set.Add("dev-memory", float64(after.PSSBytes)/(1<<20)),
		b.set.Add("dev-rss", float64(after.RSSBytes)/(1<<20)),
	)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
