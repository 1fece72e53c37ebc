package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/consensus"
	"holdfast/fsm"
)

// ask runs f in another process and brings its answer back, both over the
// network. Whether f ran is unknown when the answer does not come.
func (w *World) ask(ctx context.Context, from, to string, f func(context.Context, *proc) error) error {
	if err := w.net.cross(ctx, from, to); err != nil {
		return err
	}
	p := w.running(to)
	if p == nil || !p.ready() {
		if w.isOff(to) {
			<-ctx.Done()
			return errNoWay
		}
		return errRefused
	}
	there, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	err := f(there, p)
	if p.ctx.Err() != nil {
		return errReset
	}
	if lost := w.net.cross(ctx, to, from); lost != nil {
		return lost
	}
	return err
}

// proposeHere commits commands on this leader and returns once they are
// applied here.
func (p *proc) proposeHere(ctx context.Context, cmds [][]byte) ([]fsm.Result, error) {
	type outcome struct {
		results []fsm.Result
		err     error
	}
	ch := make(chan outcome, 1)
	p.group.ProposeAsync(cmds, func(r []fsm.Result, _ uint64, err error) { ch <- outcome{r, err} })
	select {
	case o := <-ch:
		return o.results, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, ctx.Err())
	}
}

// proposeReport is proposeHere for workers' reports, which sometimes arrive
// twice, or with their answer lost, or late.
func (p *proc) proposeReport(ctx context.Context, cmds [][]byte) ([]fsm.Result, error) {
	w := p.host.w
	switch w.reportFate() {
	case fateTwice:
		w.count("report twice")
		if r, err := p.proposeHere(ctx, cmds); err != nil {
			return r, err
		}
	case fateLost:
		w.count("report's answer lost")
		if _, err := p.proposeHere(ctx, cmds); err == nil {
			return nil, consensus.ErrUnknownOutcome
		}
	case fateLate:
		w.count("report late")
		if !sleep(ctx, w.cfg.Lease*3) {
			return nil, consensus.ErrUnknownOutcome
		}
	}
	return p.proposeHere(ctx, cmds)
}

func (p *proc) verifyLeader(ctx context.Context) error {
	_, err := p.group.ReadIndex(ctx)
	return err
}

// readIndex is node's way to a linearizable read: ask whoever leads, again
// until ctx ends.
func (p *proc) readIndex(ctx context.Context) (uint64, error) {
	for {
		index, err := p.askReadIndex(ctx)
		if err == nil {
			return index, nil
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return 0, err
		}
	}
}

func (p *proc) askReadIndex(ctx context.Context) (index uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	leader := p.group.Leader()
	if leader.ID == "" {
		return 0, errors.New("no leader is known")
	}
	err = p.host.w.ask(ctx, p.host.id, leader.ID, func(ctx context.Context, l *proc) (err error) {
		index, err = l.group.ReadIndex(ctx)
		return err
	})
	return index, err
}

var errForbidden = errors.New("this node was removed from the cluster, or never admitted")

// register tells the cluster that this process is there.
func (p *proc) register(ctx context.Context) error {
	for {
		err := p.registerOnce(ctx)
		if err == nil || errors.Is(err, errForbidden) {
			return err
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (p *proc) registerOnce(ctx context.Context) error {
	targets := []string{p.group.Leader().ID}
	if targets[0] == "" { // any node may know
		targets = p.host.w.members(p.host.id)
	}
	err := errors.New("no other node is known")
	for _, id := range targets {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		err = p.host.w.ask(one, p.host.id, id, func(ctx context.Context, l *proc) error { return l.registerHere(ctx, p.host.id, p.run) })
		cancel()
		if err == nil || errors.Is(err, errForbidden) {
			return err
		}
	}
	return err
}

// registerHere is the leader's part, as node's.
func (p *proc) registerHere(ctx context.Context, id string, incarnation uint64) error {
	body := fsm.RegisterNode{Node: fsm.Node{ID: fsm.NodeID(id), Addr: "127.0.0.1:1", Incarnation: incarnation, CPUMillis: cpuMillis, MemoryBytes: 1 << 30}}
	cmd, err := fsm.NewCommand(fsm.CmdRegisterNode, fsm.RequestID{}, "node:"+id, body)
	if err != nil {
		return err
	}
	results, err := p.proposeHere(ctx, [][]byte{cmd})
	if err != nil {
		return err
	}
	switch r := results[0]; r.Code {
	case fsm.OK:
	case fsm.CodeForbidden:
		return fmt.Errorf("%w: %s", errForbidden, r.Detail)
	default:
		return errors.New(r.Detail)
	}
	for _, m := range p.group.Members() {
		if m.ID == id {
			return nil
		}
	}
	return p.group.AddNonvoter(ctx, id, id)
}
