package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/chaos/bench/figures"
	"holdfast/chaos/bench/proc"
	"holdfast/chaos/cluster"
	"holdfast/client"
)

// soakTick is how often the soak says how it goes.
const soakTick = 30 * time.Second

func runSoak(ctx context.Context, b *bench) (err error) {
	span := fmt.Sprintf("soak of %v, %d HTTP clients, %d processes burning a core: ", b.soak, b.soakers, b.hogs)
	b.set.Define(
		figures.Figure{ID: "soak-elections", What: span + "elections", Stat: figures.Sum, Bound: figures.AtMost, Target: 0},
		figures.Figure{ID: "soak-503", What: span + "answers 503", Stat: figures.Sum, Bound: figures.AtMost, Target: 0},
		figures.Figure{ID: "soak-failed", What: span + "requests that failed otherwise, admission control (429) aside", Stat: figures.Sum, Bound: figures.AtMost, Target: 0},
		figures.Figure{ID: "soak-429", What: span + "answers 429 by admission control", Stat: figures.Sum},
		figures.Figure{ID: "soak-rate", What: span + "requests", Unit: "/s", Stat: figures.Median},
	)
	said, err := b.keepLogs("soak")
	if err != nil {
		return err
	}
	defer said.Close()
	c, err := b.start(ctx, false, logTo(said))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(c, folder(c))) }()
	before, err := reasons(ctx, c.Nodes)
	if err != nil {
		return err
	}
	stopHogs, err := burn(b.hogs)
	if err != nil {
		return err
	}
	defer stopHogs()
	tally := b.soakLoad(ctx, c)
	after, err := reasons(ctx, c.Nodes)
	if err != nil {
		return err
	}
	for _, text := range tally.examples() {
		b.set.Note("soak-failed", "%s", text)
	}
	begun, seen := after[0].since(before[0]), after[1].since(before[1])
	if len(begun)+len(seen) > 0 {
		b.set.Note("soak-elections", "%s (evidence: %s); the nodes' logs are in %s", begun, seen, said.Name())
	}
	return errors.Join(
		b.set.Add("soak-elections", begun.sum()), b.set.Add("soak-503", float64(tally.unavailable)),
		b.set.Add("soak-failed", float64(tally.failed)), b.set.Add("soak-429", float64(tally.refused)),
		b.set.Add("soak-rate", float64(tally.done)/b.soak.Seconds()), ctx.Err(),
	)
}

// reasons are the counters of elections and of evidence.
func reasons(ctx context.Context, nodes []*cluster.Node) (out [2]samples, err error) {
	for i, name := range []string{electionsMetric, evidenceMetric} {
		if out[i], err = counters(ctx, nodes, name); err != nil {
			return out, err
		}
	}
	return out, nil
}

// burn keeps cores busy with processes of the same priority as the nodes.
func burn(n int) (stop func(), err error) {
	var hogs []*proc.Process
	stop = func() {
		for _, p := range hogs {
			_ = p.Kill() // it holds nothing
		}
	}
	for range n {
		p, err := proc.Start(exec.Command("sh", "-c", "while :; do :; done"))
		if err != nil {
			stop()
			return nil, err
		}
		hogs = append(hogs, p)
	}
	return stop, nil
}

// tally counts answers.
type tally struct {
	mu                                 sync.Mutex
	done, unavailable, refused, failed int
	texts                              map[string]int
}

// maxTexts bounds how many different failures are kept.
const maxTexts = 20

func (t *tally) count(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var p *client.Problem
	switch {
	case err == nil:
		t.done++
		return
	case errors.As(err, &p) && p.Status == 503:
		t.unavailable++
	case client.IsOverloaded(err):
		t.refused++
		return
	default:
		t.failed++
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	if p != nil {
		text = fmt.Sprintf("%d %s", p.Status, p.Error())
	}
	if t.texts == nil {
		t.texts = map[string]int{}
	}
	if _, known := t.texts[text]; known || len(t.texts) < maxTexts {
		t.texts[text]++
	}
}

// examples are the most frequent failures.
func (t *tally) examples() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(t.texts), func(a, b string) int { return t.texts[b] - t.texts[a] })
	var out []string
	for _, k := range keys[:min(3, len(keys))] {
		out = append(out, fmt.Sprintf("%d times: %s", t.texts[k], k))
	}
	return out
}

// soakLoad runs the clients, each with a connection of its own, spread over
// the nodes: a task is submitted, read and cancelled, so that the queue stays
// short.
func (b *bench) soakLoad(ctx context.Context, c *cluster.Cluster) *tally {
	ctx, cancel := context.WithTimeout(ctx, b.soak)
	defer cancel()
	t := &tally{}
	var work sync.WaitGroup
	for i := range b.soakers {
		work.Go(func() {
			cfg := config(c, c.Nodes[i%len(c.Nodes)])
			cfg.Retry.Attempts = 1 // every answer counts
			cl, err := client.New(cfg)
			if err != nil {
				t.count(err)
				return
			}
			defer cl.Close()
			for ctx.Err() == nil {
				soakOne(ctx, cl, t)
			}
		})
	}
	tick := time.NewTicker(soakTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			t.mu.Lock()
			b.say("soak: %d answers, %d of 503, %d of 429, %d failed", t.done, t.unavailable, t.refused, t.failed)
			t.mu.Unlock()
		case <-ctx.Done():
		}
	}
	work.Wait()
	return t
}

// soakOne is one task's way. What the end of the soak cuts short is not
// counted.
func soakOne(ctx context.Context, cl *client.Client, t *tally) {
	note := func(err error) bool {
		if ctx.Err() != nil {
			return false
		}
		t.count(err)
		return err == nil
	}
	task, err := cl.Submit(ctx, client.TaskSpec{Command: []string{"/bin/true"}})
	if !note(err) {
		_ = pause(ctx, 10*time.Millisecond) // a client that is refused does not spin
		return
	}
	if _, err = cl.Get(ctx, task.ID); !note(err) {
		return
	}
	_, err = cl.Cancel(ctx, task.ID)
	note(err)
}
