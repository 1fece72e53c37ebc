package consensus

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/fsm"
)

// operation is an append that was answered, or a read. The register that is
// appended to shows its whole history, so out is also a place in the order.
type operation struct {
	value      string // appended; "" for a read
	out        string
	call, done time.Time
}

// try runs one operation on the node that leads, once. ok is false where the
// outcome is unknown, also of what a node says that has lost its power.
func (m *model) try(ctx context.Context, value string) (op operation, ok bool) {
	op.value = value
	for op.call = time.Now(); ctx.Err() == nil; elapse(2 * time.Millisecond) {
		for i := range m.live {
			in := m.live[i].Load()
			if in == nil || in.node.group.leadership.office.Load() == nil {
				continue
			}
			short, cancel := context.WithTimeout(ctx, time.Second)
			err := error(nil)
			if value != "" {
				var r fsm.Result
				r, _, err = in.node.group.Propose(short, testCommand{Key: "r", Value: value, Append: true, RequestID: value}.encode())
				op.out = r.Detail
			} else {
				var index uint64
				if index, err = in.node.group.ReadIndex(short); err == nil {
					at := m.live[int(index)%len(m.live)].Load() // anyone may serve it
					if at == nil {
						at = in
					}
					err = at.node.group.WaitApplied(short, index)
					op.out = at.state.get("r")
					ok = !at.state.gone.Load()
				}
			}
			cancel()
			op.done = time.Now()
			return op, err == nil && (ok || value != "") && !in.state.gone.Load()
		}
	}
	return op, false
}

// run is one seed: clients, and misfortunes. It returns what went wrong.
func (m *model) run(lasting time.Duration) []string {
	ctx, cancel := context.WithTimeout(context.Background(), lasting)
	defer cancel()
	var mu sync.Mutex
	var ops []operation
	var clients sync.WaitGroup
	seed := m.rng.Uint64()
	for id := range 3 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(id)))
			for n := 0; ctx.Err() == nil; n++ {
				value := ""
				if rng.IntN(3) > 0 {
					value = fmt.Sprintf("%d.%d;", id, n)
				}
				if op, ok := m.try(ctx, value); ok {
					mu.Lock()
					ops = append(ops, op)
					mu.Unlock()
				}
				elapse(time.Duration(rng.Int64N(int64(8 * time.Millisecond))))
			}
		})
	}
	for ctx.Err() == nil {
		m.misfortune()
	}
	clients.Wait()
	m.settle(ops)
	m.seen.answers = len(ops)
	return m.w.faults
}

// settle lets the cluster come to rest and judges the history.
func (m *model) settle(ops []operation) {
	m.c.net.Heal()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var last operation
	ok := false
	for !ok && ctx.Err() == nil {
		last, ok = m.try(ctx, "end;")
	}
	if !ok {
		m.w.fault("no write succeeds in the end")
		return
	}
	for i := range m.live {
		in := m.live[i].Load()
		for ctx.Err() == nil && in.state.get("r") != last.out {
			elapse(5 * time.Millisecond)
		}
		if in.state.get("r") != last.out {
			m.w.fault("%s ends with another state than the leader", in.node.id)
		}
	}
	judge(m.w, append(ops, last), last.out)
}

// judge checks that every answer is a prefix of the final history, that
// nothing answered is missing, and that the order is one of real time.
func judge(w *witness, ops []operation, final string) {
	for _, op := range ops {
		switch {
		case !strings.HasPrefix(final, op.out):
			w.fault("%q was answered with a history that did not last", op.value)
		case op.value != "" && strings.Count(final, ";"+op.value)+strings.Count(final[:min(len(final), len(op.value))], op.value) != 1:
			w.fault("%q was acknowledged and is not there once", op.value)
		}
		for _, before := range ops {
			if before.done.Before(op.call) && (len(before.out) > len(op.out) || len(before.out) == len(op.out) && op.value != "") {
				w.fault("%q came after %q and has not seen it", op.value, before.value)
			}
		}
	}
}

// crashRun runs one seed of the model on a virtual clock.
func crashRun(t *testing.T, seed uint64, lasting time.Duration, mut mutants) (faults []string, m *model) {
	synctest.Test(t, func(t *testing.T) {
		m = newModel(t, 3+2*int(seed%2), seed, mut)
		faults = m.run(lasting)
		m.c.stopAll()
		m.ghosts.Wait()
	})
	return faults, m
}

// crashTime bounds the seeds of one run, of which there are at least ten.
var crashTime = flag.Duration("crashtime", 5*time.Second, "how long TestPowerLossWithWritesInFlight looks for faults")

// Nodes lose their power with writes in flight, alone and together, while
// others are cut off. Whatever was answered stays, nobody applies anything that
// another does not, and reads follow writes. The mutants below show that the
// test sees each safeguard.
// guards P1, P4, P9
func TestPowerLossWithWritesInFlight(t *testing.T) {
	begin, seeds, crashes, lost, answers := time.Now(), 0, 0, 0, 0
	for seed := uint64(0); seed < 10 || time.Since(begin) < *crashTime; seed++ {
		faults, m := crashRun(t, seed, 5*time.Second, mutants{})
		if len(faults) > 0 {
			t.Fatalf("seed %d: %s", seed, strings.Join(faults[:min(5, len(faults))], "\n"))
		}
		seeds, crashes, lost, answers = seeds+1, crashes+m.seen.crashes, lost+m.seen.lost, answers+m.seen.answers
	}
	t.Logf("%d seeds, %d power losses, %d with a leader's append in flight, %d answers", seeds, crashes, lost, answers)
	if lost < seeds || answers < 50*seeds {
		t.Error("the schedules do not meet what they are made for")
	}
}

// Each safeguard of overlap that a random schedule can miss is missed. The
// others are in overlap_test.go.
func TestPowerLossFindsMutants(t *testing.T) {
	for name, mut := range map[string]mutants{
		"no clamp":      {noClamp: true},
		"no apply wait": {noApplyWait: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				if faults, _ := crashRun(t, seed, 5*time.Second, mut); len(faults) > 0 {
					t.Logf("seed %d: %d faults, as %s", seed, len(faults), faults[0])
					return
				}
			}
			t.Error("not noticed in 50 seeds")
		})
	}
}
