package sim

import (
	"context"
	"fmt"
	"io"
	"time"

	"holdfast/chaos/history"
)

func clientID(i int) string { return fmt.Sprintf("c%d", i+1) }

// Run runs one simulated cluster and says what it found. Call it inside a
// bubble of testing/synctest, which lends it its clock and fails it for
// goroutines that stay behind. The trace goes to out, if there is one.
func Run(cfg Config, out io.Writer) Result {
	w := newWorld(cfg, out)
	if err := w.boot(); err != nil {
		w.problem("boot", "%v", err)
	} else {
		w.suffer()
		w.mend()
		w.judge()
	}
	spent := time.Since(w.began)
	w.close()
	return Result{Config: cfg, Problems: w.problems, Counts: w.counts, Spent: spent, Trace: w.hash, History: w.history.all()}
}

// suffer is the time of faults.
func (w *World) suffer() {
	w.history.phase(history.Faulted)
	ctx, cancel := context.WithTimeout(w.ctx, w.cfg.Span)
	defer cancel()
	for i := range w.cfg.Clients {
		c := w.newClient(clientID(i))
		c.process = i + 1
		w.clients.Go(func() { c.run(ctx) })
	}
	w.clients.Go(func() { w.probe(ctx) })
	n := &nemesis{w: w, draw: &draws{rng: w.fork()}}
	n.run(ctx)
	w.clients.Wait()
}

// mend makes everything whole.
func (w *World) mend() {
	w.trace("mend")
	w.mu.Lock()
	w.healed = true
	w.mu.Unlock()
	w.history.phase(history.Healthy)
	w.net.heal()
	for _, h := range w.hostsNow() {
		h.thaw()
		d := h.drive()
		d.fail(nil)
		d.slow(w.cfg.DiskMost)
		if h.is(func(h *host) bool { return h.joined }) {
			w.group.Go(func() { h.start(false) })
		}
	}
}

// close ends everything and waits for it.
func (w *World) close() {
	w.logMu.Lock()
	w.quiet = true
	w.logMu.Unlock()
	procs := w.procs()
	w.stop()
	for _, p := range procs {
		p.host.crash(true)
	}
	w.group.Wait()
}
