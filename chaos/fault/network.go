package fault

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/chaos/fault/wire"
)

// ruled is a fault by rules of the switch. Its proof are the packets that they
// struck.
func ruled(s *Strike, rules ...wire.Rule) actions {
	var mu sync.Mutex
	var active []*wire.Active
	return actions{
		inject: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range rules {
				active = append(active, s.lab.net.Set(r))
			}
			return nil
		},
		bit: func(ctx context.Context) (string, error) {
			var n int64
			err := until(ctx, "packets on these ways", func() error {
				mu.Lock()
				defer mu.Unlock()
				n = 0
				for _, a := range active {
					n += a.Counts().Bites()
				}
				if n == 0 {
					return fmt.Errorf("no packet was struck")
				}
				return nil
			})
			return fmt.Sprintf("%d packets struck so far", n), err
		},
		heal: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			for _, a := range active {
				a.Remove()
			}
			return nil
		},
	}
}

func isNode(name string) bool { return name != clientsName }

// names are the nodes' ports of the switch.
func names(nodes []*Node) map[string]bool {
	out := map[string]bool{}
	for _, n := range nodes {
		out[n.Place()] = true
	}
	return out
}

// isolate cuts the targets off from the other nodes, both ways. Clients still
// reach them: what such a node answers is what must be right.
func isolate(s *Strike) actions {
	in := names(s.Targets)
	return ruled(s, wire.Rule{Drop: true, Match: func(from, to string) bool {
		return isNode(from) && isNode(to) && in[from] != in[to]
	}})
}

func deaf(s *Strike) actions {
	in := names(s.Targets)
	return ruled(s, wire.Rule{Drop: true, Match: func(from, to string) bool { return isNode(from) && in[to] && !in[from] }})
}

func mute(s *Strike) actions {
	in := names(s.Targets)
	return ruled(s, wire.Rule{Drop: true, Match: func(from, to string) bool { return isNode(to) && in[from] && !in[to] }})
}

func cutClients(s *Strike) actions {
	in := names(s.Targets)
	return ruled(s, wire.Rule{Drop: true, Match: func(from, to string) bool {
		return from == clientsName && in[to] || to == clientsName && in[from]
	}})
}

// partition has the nodes fall into parts.
func partition(s *Strike) actions {
	nodes := s.lab.Nodes()
	s.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	place := map[string]int{}
	for i, n := range nodes {
		place[n.Place()] = i
	}
	s.Targets = nodes
	connected := shape(s.Step.With["shape"], len(nodes))
	return ruled(s, wire.Rule{Drop: true, Match: func(from, to string) bool {
		a, okA := place[from]
		b, okB := place[to]
		return okA && okB && !connected(a, b)
	}})
}

// shape says which of n nodes reach each other.
func shape(name string, n int) func(a, b int) bool {
	switch name {
	case "ring": // each its two neighbours
		return func(a, b int) bool { d := (a - b + n) % n; return d == 1 || d == n-1 }
	case "bridge": // the last reaches both halves
		half := (n - 1) / 2
		return func(a, b int) bool { return a == n-1 || b == n-1 || (a < half) == (b < half) }
	}
	return func(a, b int) bool { return (a < n/2) == (b < n/2) }
}

// flap cuts the targets off and back, over and over.
func flap(s *Strike) actions {
	up, down := s.Step.With.Duration("up"), s.Step.With.Duration("down")
	begun := time.Now()
	in := names(s.Targets)
	return ruled(s, wire.Rule{
		Drop:  true,
		Match: func(from, to string) bool { return isNode(from) && isNode(to) && in[from] != in[to] },
		Gate:  func(wire.Packet) bool { return time.Since(begun)%(up+down) < down },
	})
}

// worse makes some links worse. The same fault strikes both ways.
func worse(s *Strike) actions {
	with := s.Step.With
	r := wire.Rule{Match: s.onLinks()}
	switch s.Step.Fault {
	case "loss":
		r.Loss = with.Ratio("share")
	case "delay":
		r.Delay, r.Jitter = with.Duration("by"), with.Duration("jitter")
	case "duplicate":
		r.Duplicate = with.Ratio("share")
	case "reorder":
		r.Reorder, r.ReorderBy = with.Ratio("share"), with.Duration("by")
	case "corrupt":
		r.Corrupt = with.Ratio("share")
	case "throttle":
		r.Kbit = with.Count("kbit")
	case "mtu":
		r.MTU = with.Count("bytes")
	}
	return ruled(s, r)
}

// onLinks matches one link both ways, or every way between nodes that begins
// or ends at a target.
func (s *Strike) onLinks() func(from, to string) bool {
	if s.from != nil {
		a, b := names(s.from), names(s.to)
		return func(from, to string) bool { return a[from] && b[to] || b[from] && a[to] }
	}
	in := names(s.Targets)
	return func(from, to string) bool { return isNode(from) && isNode(to) && (in[from] || in[to]) }
}

// nodePortNumber is nodePort for packets.
var nodePortNumber = func() uint16 { n, _ := strconv.ParseUint(nodePort, 10, 16); return uint16(n) }()

// clientDeaf loses what nodes answer to clients, for short whiles: the request
// has gone out by then.
func clientDeaf(s *Strike) actions {
	share := s.Step.With.Ratio("share")
	begun := time.Now()
	const turn = 600 * time.Millisecond
	a := ruled(s, wire.Rule{
		Drop:  true,
		Match: func(from, to string) bool { return isNode(from) && to == clientsName },
		Gate: func(p wire.Packet) bool {
			return p.SrcPort == nodePortNumber && float64(time.Since(begun)%turn) < share*float64(turn)
		},
	})
	a.healed = func(context.Context) (string, error) { return "answers pass again", nil }
	return a
}

func joined(nodes []*Node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
