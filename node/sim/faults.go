package sim

import (
	"context"
	"slices"
	"time"

	"holdfast/chaos/history"
	"holdfast/consensus"
)

// nemesis breaks things, one after the other, often before the last one is
// mended.
type nemesis struct {
	w    *World
	draw *draws
	open []func() // what mends what is broken; each may be called twice
}

// fault breaks something and returns what mends it; nil says that it found
// nothing to break.
type fault struct {
	name   string
	weight int
	inject func(*nemesis) (heal func())
}

func allFaults() []fault {
	return []fault{
		{"kill", 4, func(n *nemesis) func() { return n.down(n.any(), false) }},
		{"kill the leader", 4, func(n *nemesis) func() { return n.down(n.leader(), false) }},
		{"power", 3, func(n *nemesis) func() { return n.down(n.any(), true) }},
		{"power of the leader", 4, func(n *nemesis) func() { return n.down(n.leader(), true) }},
		{"kill a minority", 2, func(n *nemesis) func() { return n.several(len(n.w.hostsNow())/2, false) }},
		{"kill all", 1, func(n *nemesis) func() { return n.several(len(n.w.hostsNow()), false) }},
		{"power of a majority", 2, func(n *nemesis) func() { return n.several(len(n.w.hostsNow())/2+1, true) }},
		{"power of all", 3, func(n *nemesis) func() { return n.several(len(n.w.hostsNow()), true) }},
		{"halves", 4, (*nemesis).halves},
		{"isolated leader", 4, func(n *nemesis) func() { return n.isolate(n.leader(), true, true) }},
		{"leader isolated and suspected", 4, (*nemesis).suspect},
		{"leader and few, then its power", 4, (*nemesis).fewAndPower},
		{"isolated node", 2, func(n *nemesis) func() { return n.isolate(n.any(), true, true) }},
		{"deaf", 2, func(n *nemesis) func() { return n.isolate(n.any(), true, false) }},
		{"mute", 2, func(n *nemesis) func() { return n.isolate(n.any(), false, true) }},
		{"deaf leader", 2, func(n *nemesis) func() { return n.isolate(n.leader(), true, false) }},
		{"mute leader", 2, func(n *nemesis) func() { return n.isolate(n.leader(), false, true) }},
		{"ring", 1, (*nemesis).ring},
		{"bridge", 1, (*nemesis).bridge},
		{"flapping", 2, (*nemesis).flap},
		{"clients only", 1, (*nemesis).clientsOnly},
		{"loss", 2, (*nemesis).loss},
		{"delay", 2, (*nemesis).delay},
		{"duplication", 1, (*nemesis).duplicate},
		{"slow disk", 2, (*nemesis).slowDisk},
		{"hung disk", 2, (*nemesis).hungDisk},
		{"failed disk", 2, func(n *nemesis) func() { return n.badDisk(errDisk) }},
		{"full disk", 1, func(n *nemesis) func() { return n.badDisk(errFull) }},
		{"freeze", 4, func(n *nemesis) func() { return n.frozen(n.any()) }},
		{"freeze the leader", 3, func(n *nemesis) func() { return n.frozen(n.leader()) }},
		{"clock", 4, (*nemesis).clock},
		{"transfer", 3, (*nemesis).transfer},
		{"snapshot", 2, (*nemesis).snapshot},
		{"cut stream", 3, (*nemesis).cutStream},
		{"forged evidence", 1, (*nemesis).forge},
		{"join", 2, (*nemesis).join},
		{"leave", 1, (*nemesis).leave},
		{"replace", 2, (*nemesis).replace},
		{"herd", 3, (*nemesis).herd},
	}
}

func faultNames() (names []string) {
	for _, f := range allFaults() {
		names = append(names, f.name)
	}
	return names
}

// lasting faults are often held for longer than any lease: what fences is only
// met when somebody else is given the work.
var lasting = []string{"halves", "isolated leader", "isolated node", "leader isolated and suspected", "deaf", "mute", "freeze"}

// run breaks things until ctx ends, and mends everything.
func (n *nemesis) run(ctx context.Context) {
	var menu []fault
	for _, f := range allFaults() {
		if slices.Contains(n.w.cfg.Faults, f.name) {
			for range f.weight {
				menu = append(menu, f)
			}
		}
	}
	for sleep(ctx, n.draw.around(n.w.cfg.FaultMean)) {
		if n.draw.upTo(8) == 0 { // and now and then there is peace
			n.w.trace("peace")
			n.mend()
			sleep(ctx, n.w.cfg.Lease)
		}
		f := menu[n.draw.upTo(len(menu))]
		heal := f.inject(n)
		if heal == nil {
			continue
		}
		n.w.count("fault: " + f.name)
		n.open = append(n.open, heal)
		hold := n.draw.around(n.w.cfg.HoldMean)
		if slices.Contains(lasting, f.name) && n.draw.upTo(2) == 0 {
			hold += 2 * n.w.cfg.Lease
		}
		n.w.trace("fault %s for %v", f.name, hold)
		n.w.history.add(history.Event{Kind: history.Note, Text: f.name})
		n.w.group.Go(func() {
			if sleep(ctx, hold) {
				n.w.trace("heal %s", f.name)
				heal()
			}
		})
	}
	n.mend()
}

// mend heals everything that was broken so far.
func (n *nemesis) mend() {
	for _, heal := range n.open {
		heal()
	}
	n.open = nil
}

// any is one of the machines, leader the one whose process leads.
func (n *nemesis) any() *host {
	hosts := n.w.hostsNow()
	return hosts[n.draw.upTo(len(hosts))]
}

func (n *nemesis) leader() *host {
	if p := n.w.leader(); p != nil {
		return p.host
	}
	return n.any()
}

// leader is the process that leads by its own account, the one of the highest
// term if there are several.
func (w *World) leader() (found *proc) {
	var term uint64
	for _, p := range w.procs() {
		if !p.ready() {
			continue
		}
		if l := p.group.Leader(); l.Self && l.Term >= term {
			found, term = p, l.Term
		}
	}
	return found
}

func (n *nemesis) down(h *host, power bool) func() {
	if !h.is(func(h *host) bool { return h.proc != nil }) {
		return nil
	}
	n.w.mu.Lock()
	h.wanted = false
	n.w.mu.Unlock()
	h.crash(power)
	return func() { n.w.group.Go(func() { h.start(false) }) }
}

func (n *nemesis) several(count int, power bool) func() {
	hosts := n.w.hostsNow()
	n.draw.shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	var heals []func()
	for _, h := range hosts[:count] {
		if heal := n.down(h, power); heal != nil {
			heals = append(heals, heal)
		}
	}
	return func() {
		for _, heal := range heals {
			heal()
		}
	}
}

func (n *nemesis) frozen(h *host) func() {
	h.freeze()
	return h.thaw
}

func (n *nemesis) clock() func() {
	h := n.any()
	if n.draw.upTo(2) == 0 {
		h = n.leader()
	}
	d := n.draw.around(time.Minute)
	if n.draw.upTo(2) == 0 {
		d = -d
	}
	if n.draw.upTo(2) == 0 {
		d *= 100
	}
	n.w.trace("clock of %s jumps by %v", h.id, d)
	h.clock.jump(d)
	n.w.clockMoved()
	return func() {}
}

func (n *nemesis) transfer() func() {
	p := n.w.leader()
	if p == nil {
		return nil
	}
	n.w.group.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		defer cancel()
		n.w.trace("transfer from %s: %v", p.host.id, p.group.TransferLeadership(ctx))
	})
	return func() {}
}

func (n *nemesis) snapshot() func() {
	procs := n.w.procs()
	if len(procs) == 0 {
		return nil
	}
	p := procs[n.draw.upTo(len(procs))]
	if !p.ready() {
		return nil
	}
	n.w.group.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		defer cancel()
		_ = p.group.Snapshot(ctx)
	})
	return func() {}
}

// forge claims that the leader's process is gone. It costs an election.
func (n *nemesis) forge() func() {
	l := n.w.leader()
	for _, p := range n.w.procs() {
		if l != nil && p != l && p.ready() {
			p.group.Evidence(l.host.id, consensus.KindPortUnreachable)
		}
	}
	return func() {}
}

// herd is many clients that come at once.
func (n *nemesis) herd() func() {
	if !n.w.cfg.Herd {
		return nil
	}
	for range 100 {
		c := n.w.newClient("h")
		n.w.group.Go(func() { c.submit(1) })
	}
	return func() {}
}
