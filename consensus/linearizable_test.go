package consensus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
)

// A register that is appended to: a value is the whole history of its writes,
// so that a lost, doubled or reordered one shows.
type registerInput struct {
	read  bool
	value string
}

var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in := input.(registerInput)
		if in.read {
			return output.(string) == state.(string), state
		}
		next := state.(string) + in.value
		// An unknown outcome has no output and fits anything.
		return output.(string) == "" || output.(string) == next, next
	},
}

// history collects operations with virtual times. Operations of unknown
// outcome never end.
type history struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

func (h *history) add(op porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// append writes value on whoever leads, retried with one request ID until the
// outcome is known.
func (c *cluster) appendValue(ctx context.Context, value string) (string, error) {
	cmd := testCommand{Key: "r", Value: value, Append: true, RequestID: value}.encode()
	for ctx.Err() == nil {
		for _, nd := range c.nodes {
			try, cancel := context.WithTimeout(ctx, time.Second)
			r, _, err := nd.group.Propose(try, cmd)
			cancel()
			if err == nil {
				return r.Detail, nil
			}
			var nl *NotLeaderError
			if !errors.As(err, &nl) && !errors.Is(err, ErrUnknownOutcome) {
				return "", err
			}
		}
		elapse(3 * time.Millisecond)
	}
	return "", ctx.Err()
}

// readValue reads through node at, as a node serves a linearizable read: the
// index from whoever claims to lead, then the local state.
func (c *cluster) readValue(ctx context.Context, at int) (string, error) {
	for ctx.Err() == nil {
		for _, nd := range c.nodes {
			try, cancel := context.WithTimeout(ctx, time.Second)
			index, err := nd.group.ReadIndex(try)
			if err == nil {
				err = c.nodes[at].group.WaitApplied(try, index)
			}
			cancel()
			if err == nil {
				return c.nodes[at].state.get("r"), nil
			}
		}
		elapse(3 * time.Millisecond)
	}
	return "", ctx.Err()
}

// Clients append and read through every node while the leader is cut off,
// deposed by evidence and by timers, again and again. The history must be
// linearizable and every append must take effect once.
// guards P1, P4
func TestLinearizableUnderChangesOfLeader(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			var h history
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, 3, func(cfg *Config) {
					// Clocks differ by minutes; nothing may depend on them.
					skew := time.Duration(cfg.ID[1]-'2') * 3 * time.Minute
					cfg.Now = func() time.Time { return time.Now().Add(skew) }
				})
				defer c.stopAll()
				c.startAll()
				c.leader()
				runHistory(t, c, &h, seed)
			})
			if res := porcupine.CheckOperationsTimeout(registerModel, h.ops, 20*time.Second); res != porcupine.Ok {
				t.Errorf("history of %d operations: %v", len(h.ops), res)
			}
		})
	}
}

func runHistory(t *testing.T, c *cluster, h *history, seed uint64) {
	begin := time.Now()
	end := begin.Add(6 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var clients sync.WaitGroup
	for client := range 5 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(client)))
			for n := 0; time.Now().Before(end); n++ {
				in := registerInput{read: r.IntN(2) == 0, value: fmt.Sprintf("%d.%d;", client, n)}
				op := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(begin))}
				var out string
				var err error
				if in.read {
					out, err = c.readValue(ctx, client%3)
				} else {
					out, err = c.appendValue(ctx, in.value)
				}
				if err != nil {
					t.Errorf("client %d: %v", client, err)
					return
				}
				op.Output, op.Return = out, int64(time.Since(begin))
				h.add(op)
				elapse(time.Duration(r.IntN(60)) * time.Millisecond)
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 99))
	for time.Now().Before(end) {
		l := c.leader()
		c.isolate(l)
		if r.IntN(2) == 0 { // otherwise by timers
			for _, i := range c.others(l) {
				c.nodes[i].group.Evidence(l.id, KindPortUnreachable)
			}
		}
		elapse(time.Duration(200+r.IntN(700)) * time.Millisecond)
		c.net.Heal()
		elapse(time.Duration(r.IntN(300)) * time.Millisecond)
	}
	clients.Wait()
	final, err := c.readValue(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for v := range strings.SplitSeq(strings.TrimSuffix(final, ";"), ";") {
		if seen[v] {
			t.Errorf("%s took effect twice", v)
		}
		seen[v] = true
	}
	for _, op := range h.ops {
		if in := op.Input.(registerInput); !in.read && !seen[strings.TrimSuffix(in.value, ";")] {
			t.Errorf("%s was acknowledged and is lost", in.value)
		}
	}
}
