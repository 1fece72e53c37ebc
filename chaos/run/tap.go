package run

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/chaos/history"
)

// tap counts what goes into the history, for the steady state, the progress
// and the verdict.
type tap struct {
	mu sync.Mutex
	counts
	window  []beat // of the last seconds, oldest first
	leader  map[uint64]string
	since   uint64 // terms up to here were there before the faults
	changes int
}

type counts struct {
	injected, bit, skipped int
	acked                  int64
	violations             []string
}

// beat is one answered or unanswered write.
type beat struct {
	at    time.Duration
	probe bool
	ok    bool
}

// kept bounds the window.
const kept = 10 * time.Second

func newTap() *tap { return &tap{leader: map[uint64]string{}} }

func (t *tap) count(f func(*counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.counts)
}

// see is the history's watcher.
func (t *tap) see(e *history.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Kind == history.Sample && e.State != nil && e.State.Leader != "" {
		if t.leader[e.State.Term] == "" {
			t.leader[e.State.Term] = e.State.Leader
			if t.since > 0 && e.State.Term > t.since {
				t.changes++
			}
		}
		return
	}
	if e.Op != history.Submit && e.Op != history.Probe || e.Kind == history.Invoke {
		return
	}
	ok := e.Kind == history.OK
	if ok {
		t.acked++
	}
	now := time.Duration(e.At)
	t.window = append(t.window, beat{at: now, probe: e.Op == history.Probe, ok: ok})
	cut := 0
	for cut < len(t.window) && t.window[cut].at < now-kept {
		cut++
	}
	if cut > len(t.window)/2 {
		t.window = append(t.window[:0], t.window[cut:]...)
	}
}

// begin counts changes of the leader from here on.
func (t *tap) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for term := range t.leader {
		t.since = max(t.since, term)
	}
}

// rates are the acknowledged writes per second since a time, and the share of
// probes that had no answer.
func (t *tap) rates(since, now time.Duration) (acked, lost float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var oks, probes, bad int
	for _, b := range t.window {
		if b.at < since {
			continue
		}
		if b.ok {
			oks++
		}
		if b.probe {
			probes++
			if !b.ok {
				bad++
			}
		}
	}
	if now > since {
		acked = float64(oks) / (now - since).Seconds()
	}
	if probes > 0 {
		lost = float64(bad) / float64(probes)
	}
	return acked, lost
}

// steadyPoll is how often the steady state is looked at.
const steadyPoll = 100 * time.Millisecond

// steady waits until the hypothesis has held for its time.
func (r *runner) steady(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	st := r.scn.Steady
	begun := r.hist.Now()
	last := "no write was acknowledged"
	for ctx.Err() == nil {
		pass(ctx, steadyPoll)
		now := r.hist.Now()
		since := now - min(st.For.D(), kept)
		if since < begun {
			continue
		}
		acked, lost := r.tap.rates(since, now)
		if acked >= st.MinRate && lost <= st.MaxError {
			return nil
		}
		last = fmt.Sprintf("%.1f acknowledged writes per second, at least %.1f wanted; %.0f %% of the probes without an answer, at most %.0f %%", acked, st.MinRate, 100*lost, 100*st.MaxError)
	}
	return fmt.Errorf("within %s: %s", within, last)
}
