package sim

import (
	"context"
	"time"

	"holdfast/consensus"
)

// host is a machine: what outlives a process.
type host struct {
	w         *World
	id        string
	clock     *clock
	sandboxes *sandboxes

	// Guarded by World.mu.
	disk    *disk
	proc    *proc // nil = no process
	off     bool  // no power
	runs    uint64
	joined  bool // it has been admitted
	leaving bool // it is being removed, or has been
	removed bool // it has left for good
	wanted  bool // a supervisor starts it when it has ended by itself
}

// is asks for the guarded fields.
func (h *host) is(f func(*host) bool) bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return f(h)
}

// evidence kinds as the transport meets them.
const (
	evidenceRefused = consensus.KindPortUnreachable
	evidenceClosed  = consensus.KindConnectionClosed
	evidenceReset   = consensus.KindStatelessReset
)

func (w *World) newHost(id string) *host {
	h := &host{w: w, id: id, clock: newClock(w.fork().Int64N(201) - 100)}
	h.sandboxes = &sandboxes{host: h}
	h.disk = newDisk(w, id, w.fork())
	h.disk.slow(w.cfg.DiskMost)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts = append(w.hosts, h)
	return h
}

// running is the process on a machine, nil if there is none.
func (w *World) running(id string) *proc {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h.id == id {
			return h.proc
		}
	}
	return nil
}

func (w *World) isOff(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h.id == id {
			return h.off
		}
	}
	return true
}

// procs are all processes that run, in the order of their machines.
func (w *World) procs() []*proc {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*proc
	for _, h := range w.hosts {
		if h.proc != nil {
			out = append(out, h.proc)
		}
	}
	return out
}

// start starts a process on a machine; bootstrap makes a cluster of it.
func (h *host) start(bootstrap bool) {
	w := h.w
	w.mu.Lock()
	if h.proc != nil || h.leaving || w.ctx.Err() != nil {
		w.mu.Unlock()
		return
	}
	if h.runs > 0 && !h.disk.identified() {
		w.mu.Unlock()
		w.count("start refused: the store is empty")
		return
	}
	h.off, h.wanted = false, true
	h.runs++
	p := newProc(h, h.runs)
	w.mu.Unlock()
	p.disk.identify()
	w.trace("start %s run %d", h.id, p.run)
	if err := p.open(bootstrap); err != nil && p.ctx.Err() == nil {
		w.problem("start", "%s does not start: %v", h.id, err)
		return
	}
}

// crash ends a machine's process: with kill -9, or with the machine's power.
func (h *host) crash(power bool) {
	w := h.w
	w.mu.Lock()
	p := h.proc
	if p == nil {
		w.mu.Unlock()
		return
	}
	h.proc = nil
	h.off = power
	h.disk = h.disk.crash(power)
	w.mu.Unlock()
	w.count(map[bool]string{true: "power lost", false: "killed"}[power])
	w.trace("crash %s power=%v", h.id, power)
	h.thaw()
	p.end(power)
}

// freeze stops a machine's processes; their sandboxes go on.
func (h *host) freeze() {
	h.clock.freeze()
	h.w.net.alter(func() { h.w.net.frozen[h.id] = true })
}

// thaw lets them go on.
func (h *host) thaw() {
	h.clock.thaw()
	h.w.net.alter(func() { delete(h.w.net.frozen, h.id) })
}

// tell lets the processes that can be reached learn that one is gone.
func (w *World) tell(p *proc, kind string) {
	for _, other := range w.procs() {
		if other == p {
			continue
		}
		w.group.Go(func() {
			patience, cancel := context.WithTimeout(w.ctx, time.Second)
			defer cancel()
			// A probe goes there, the answer of its kernel comes back.
			if w.net.cross(patience, other.host.id, p.host.id) == nil && w.net.cross(patience, p.host.id, other.host.id) == nil && other.ready() {
				other.group.Evidence(p.host.id, kind)
			}
		})
	}
}
