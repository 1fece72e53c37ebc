package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/chaos/fault"
	"holdfast/chaos/history"
	"holdfast/chaos/scenario"
)

const (
	// biteFor is how long a fault may take to bite beyond its own time.
	biteFor = 60 * time.Second
	// healFor bounds one heal and the proof of it. It is above the time in
	// which gossip forgets a node, so that a return by itself is seen.
	healFor = 90 * time.Second
)

// faults takes every step of the plan at its time, and returns when the load's
// time is over and all is healed.
func (r *runner) faults(ctx context.Context) {
	begun := time.Now()
	plan := r.scn.Plan(r.opt.Seed)
	r.tell("phase", "", "break it: %d faults in %s", len(plan), r.scn.Workload.For)
	var wg sync.WaitGroup
	for i, step := range plan {
		pass(ctx, time.Until(begun.Add(step.At.D())))
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() { r.strike(ctx, step, r.opt.Seed+uint64(i)*0x9e3779b97f4a7c15) })
	}
	pass(ctx, time.Until(begun.Add(r.scn.Workload.For.D())))
	wg.Wait()
}

// strike does one fault. Its heal comes also after a halt.
func (r *runner) strike(ctx context.Context, step scenario.Step, seed uint64) {
	s, err := r.lab.Prepare(ctx, step, seed)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		r.tap.count(func(c *counts) { c.skipped++ })
		r.note("%s on %s was left out: %v", step.Fault, step.On, err)
		return
	}
	defer s.Release()
	id := r.hist.NextID()
	r.hist.Add(history.Event{Kind: history.Inject, ID: id, Fault: s.Fault()})
	r.tap.count(func(c *counts) { c.injected++ })
	where := fmt.Sprint(s.Names())
	r.tell("fault", step.Fault, "%s on %s %s", step.Fault, step.On, where)

	bite, cancel := context.WithTimeout(ctx, step.For.D()+biteFor)
	defer cancel()
	begun := time.Now()
	text, err := "", s.Inject(bite)
	if err == nil {
		text, err = s.Bit(bite)
	}
	if err == nil {
		r.hist.Add(history.Event{Kind: history.Bit, ID: id, Text: text})
		r.tap.count(func(c *counts) { c.bit++ })
		r.tell("fault", step.Fault, "%s bit: %s", step.Fault, text)
		pass(ctx, step.For.D()-time.Since(begun))
	} else if ctx.Err() == nil {
		r.failed(step, "inject", err)
	}
	r.heal(ctx, s, id)
}

func (r *runner) heal(ctx context.Context, s *fault.Strike, id int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healFor)
	defer cancel()
	r.hist.Add(history.Event{Kind: history.Heal, ID: id})
	err := s.Heal(ctx)
	text := ""
	if err == nil {
		text, err = s.Healed(ctx)
	}
	if err != nil {
		r.failed(s.Step, "heal", err)
		return
	}
	r.hist.Add(history.Event{Kind: history.Healed, ID: id, Text: text})
	r.tell("fault", s.Step.Fault, "%s healed: %s", s.Step.Fault, text)
}

// failed tells of a fault that did not do what it should.
func (r *runner) failed(step scenario.Step, what string, err error) {
	var v *fault.Violation
	if errors.As(err, &v) {
		r.tap.count(func(c *counts) { c.violations = append(c.violations, v.What) })
	}
	r.note("%s %s on %s: %v", what, step.Fault, step.On, err)
}
