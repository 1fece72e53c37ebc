package sim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// draws are the nemesis's own source of chance.
type draws struct {
	mu  sync.Mutex
	rng *rand.Rand // guarded by mu
}

func (d *draws) upTo(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

func (d *draws) float() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64()
}

// around is a time with this mean, often much shorter.
func (d *draws) around(mean time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rng.ExpFloat64() * float64(mean))
}

func (d *draws) shuffle(n int, swap func(i, j int)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rng.Shuffle(n, swap)
}

// cutWays cuts ways, and returns what opens them again. Two faults may cut the
// same way: the first one healed opens it.
func (n *nemesis) cutWays(ways []way) func() {
	n.w.net.alter(func() {
		for _, w := range ways {
			n.w.net.cut[w] = true
		}
	})
	return func() {
		n.w.net.alter(func() {
			for _, w := range ways {
				delete(n.w.net.cut, w)
			}
		})
	}
}

func (n *nemesis) ids() (ids []string) {
	hosts := n.w.hostsNow()
	n.draw.shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	for _, h := range hosts {
		ids = append(ids, h.id)
	}
	return ids
}

// halves cuts the machines in two.
func (n *nemesis) halves() func() {
	ids := n.ids()
	at := 1 + n.draw.upTo(len(ids)/2)
	var ways []way
	for _, a := range ids[:at] {
		for _, b := range ids[at:] {
			ways = append(ways, way{a, b}, way{b, a})
		}
	}
	n.w.trace("cut %v from %v", ids[:at], ids[at:])
	return n.cutWays(ways)
}

// isolate cuts one machine off from the others: what comes in, what goes out.
func (n *nemesis) isolate(h *host, in, out bool) func() {
	var ways []way
	for _, id := range n.ids() {
		if id == h.id {
			continue
		}
		if in {
			ways = append(ways, way{id, h.id})
		}
		if out {
			ways = append(ways, way{h.id, id})
		}
	}
	n.w.trace("isolate %s in %v out %v", h.id, in, out)
	return n.cutWays(ways)
}

// suspect cuts the leader off and tells the others that it is dead, so that they
// elect before its own lease is over.
func (n *nemesis) suspect() func() {
	l := n.leader()
	heal := n.isolate(l, n.draw.upTo(4) > 0, true)
	for _, p := range n.w.procs() {
		if p.host != l && p.ready() {
			p.group.Evidence(l.id, evidenceRefused)
		}
	}
	return heal
}

// fewAndPower leaves the leader a minority, whose disks are quicker than its
// own, and then takes its power and lets the others go on.
func (n *nemesis) fewAndPower() func() {
	l := n.leader()
	var few, rest []string
	for _, id := range n.ids() {
		switch {
		case id == l.id:
		case len(few) < (len(n.w.hostsNow())-1)/2:
			few = append(few, id)
		default:
			rest = append(rest, id)
		}
	}
	var away, back []way
	for _, a := range rest {
		for _, b := range few {
			away = append(away, way{a, b}, way{b, a})
			back = append(back, way{a, b}, way{b, a})
		}
		away = append(away, way{a, l.id}, way{l.id, a})
	}
	for _, b := range few {
		back = append(back, way{b, l.id}, way{l.id, b})
	}
	heal := n.cutWays(away)
	release := l.drive().hang()
	sleep(n.w.ctx, time.Duration(n.draw.float()*float64(200*time.Millisecond)))
	heal()
	heal = n.cutWays(back)
	n.down(l, true)
	release()
	l.start(false)
	return heal
}

// ring leaves each machine its two neighbours.
func (n *nemesis) ring() func() {
	ids := n.ids()
	if len(ids) < 4 {
		return nil
	}
	var ways []way
	for i, a := range ids {
		for j, b := range ids {
			if d := (j - i + len(ids)) % len(ids); d > 1 && d < len(ids)-1 {
				ways = append(ways, way{a, b})
			}
		}
	}
	return n.cutWays(ways)
}

// bridge leaves one machine that both halves can reach.
func (n *nemesis) bridge() func() {
	ids := n.ids()
	rest := ids[1:]
	var ways []way
	for _, a := range rest[:len(rest)/2] {
		for _, b := range rest[len(rest)/2:] {
			ways = append(ways, way{a, b}, way{b, a})
		}
	}
	return n.cutWays(ways)
}

// flap isolates a machine again and again.
func (n *nemesis) flap() func() {
	h := n.any()
	ctx, cancel := context.WithCancel(n.w.ctx)
	n.w.group.Go(func() {
		for ctx.Err() == nil {
			heal := n.isolate(h, true, true)
			sleep(ctx, n.draw.around(n.w.cfg.Timing.Heartbeat))
			heal()
			sleep(ctx, n.draw.around(n.w.cfg.Timing.Heartbeat))
		}
	})
	return cancel
}

// clientsOnly cuts all clients off from some machines.
func (n *nemesis) clientsOnly() func() {
	ids := n.ids()
	var ways []way
	for _, id := range ids[:1+n.draw.upTo(len(ids))] {
		for c := range n.w.cfg.Clients {
			ways = append(ways, way{id, clientID(c)}) // they are heard, and hear nothing
			if n.draw.upTo(2) == 0 {
				ways = append(ways, way{clientID(c), id})
			}
		}
	}
	return n.cutWays(ways)
}

func (n *nemesis) loss() func() {
	p := 0.3 * n.draw.float()
	n.w.net.alter(func() { n.w.net.loss = p })
	return func() { n.w.net.alter(func() { n.w.net.loss = 0 }) }
}

func (n *nemesis) duplicate() func() {
	n.w.net.alter(func() { n.w.net.twice = 0.2 })
	return func() { n.w.net.alter(func() { n.w.net.twice = 0 }) }
}

// delay makes one machine's ways slow, or all.
func (n *nemesis) delay() func() {
	ids := n.ids()
	slow := ids[:1+n.draw.upTo(len(ids))]
	most := n.w.cfg.Timing.Heartbeat * 2
	n.w.net.alter(func() {
		for _, a := range slow {
			for _, b := range ids {
				n.w.net.slow[way{a, b}] = time.Duration(n.draw.float() * float64(most))
				n.w.net.slow[way{b, a}] = time.Duration(n.draw.float() * float64(most))
			}
		}
	})
	return func() { n.w.net.alter(func() { clear(n.w.net.slow) }) }
}

// cutStream ends a stream between two processes in the middle.
func (n *nemesis) cutStream() func() {
	procs := n.w.procs()
	if len(procs) == 0 {
		return nil
	}
	p := procs[n.draw.upTo(len(procs))]
	p.mu.Lock()
	var conns []*conn
	for c := range p.conns {
		conns = append(conns, c)
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.cut(n.draw.upTo(2))
	}
	return func() {}
}

func (n *nemesis) slowDisk() func() {
	h := n.any()
	h.drive().slow(pick2(n.draw, 50*time.Millisecond, 500*time.Millisecond, 2*time.Second))
	return func() { h.drive().slow(n.w.cfg.DiskMost) }
}

func (n *nemesis) hungDisk() func() {
	h := n.any()
	if n.draw.upTo(2) == 0 {
		h = n.leader()
	}
	return h.drive().hang()
}

func (n *nemesis) badDisk(err error) func() {
	h := n.any()
	if n.draw.upTo(2) == 0 {
		h = n.leader()
	}
	h.drive().fail(err)
	return func() { h.drive().fail(nil) }
}

func pick2[T any](d *draws, of ...T) T { return of[d.upTo(len(of))] }

// drive is the machine's disk now: a crash replaces it.
func (h *host) drive() (d *disk) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.disk
}
