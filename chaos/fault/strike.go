package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"holdfast/chaos/history"
	"holdfast/chaos/scenario"
)

// ErrBusy tells that another strike owns the process of a node that this one
// aims at, or that nobody has the role: nothing was done.
var ErrBusy = errors.New("no node with that role is free")

// ErrNoBite tells that nothing shows that a fault bit.
var ErrNoBite = errors.New("it did not bite")

// Violation is a promise that was broken where a fault itself looked, as by a
// node that serves with a damaged log.
type Violation struct{ What string }

func (v *Violation) Error() string { return "promise broken: " + v.What }

// actions are a fault's own. What is nil is the default: nothing to prove
// beyond Inject's success, nothing to mend, and every target serving again.
type actions struct {
	// ready is ErrBusy where the fault makes no sense now; nil: it does.
	ready  func() error
	inject func(context.Context) error
	bit    func(context.Context) (string, error)
	heal   func(context.Context) error
	healed func(context.Context) (string, error)
	// owns tells that the targets' processes are this strike's until its end.
	owns bool
}

// Strike is one fault on the lab.
type Strike struct {
	Step    scenario.Step
	Targets []*Node

	lab  *Lab
	rng  *rand.Rand
	act  actions
	from []*Node // link(a,b): one end
	to   []*Node // the other
}

// Prepare finds the targets of a step, by role, as the cluster is now. Seed is
// the strike's own.
func (l *Lab) Prepare(ctx context.Context, step scenario.Step, seed uint64) (*Strike, error) {
	make, ok := makers[step.Fault]
	if !ok {
		return nil, fmt.Errorf("fault %s is not there for clusters of processes", step.Fault)
	}
	s := &Strike{Step: step, lab: l, rng: rand.New(rand.NewPCG(seed, 0x7374726b))}
	if err := s.aim(ctx); err != nil {
		return nil, err
	}
	s.act = make(s)
	if s.act.ready != nil {
		if err := s.act.ready(); err != nil {
			return nil, err
		}
	}
	if s.act.owns {
		if err := l.claim(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (l *Lab) claim(s *Strike) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range s.Targets {
		if l.owner[n] != nil {
			return fmt.Errorf("%w: %s has %s", ErrBusy, l.owner[n].Step.Fault, n.Name)
		}
	}
	for _, n := range s.Targets {
		l.owner[n] = s
	}
	return nil
}

// Owned reports whether a strike owns the node's process: then its end is no
// surprise.
func (l *Lab) Owned(n *Node) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owner[n] != nil
}

// Fault is the strike for the history.
func (s *Strike) Fault() *history.Fault {
	f := &history.Fault{Type: s.Step.Fault, Targets: s.Places(), Role: s.Step.On.String(), Params: s.Step.With}
	down := slices.Contains([]string{"kill", "pause", "zombie", "freeze", "power", "starve-cpu"}, s.Step.Fault)
	f.NoQuorum = down && (s.Step.On.Role == scenario.Majority || s.Step.On.Role == scenario.All)
	return f
}

// Places are the names by which clients know the targets.
func (s *Strike) Places() []string {
	var out []string
	for _, n := range s.Targets {
		out = append(out, n.Place())
	}
	return out
}

// Names are the targets'.
func (s *Strike) Names() []string {
	var out []string
	for _, n := range s.Targets {
		out = append(out, n.Name)
	}
	return out
}

// Inject breaks.
func (s *Strike) Inject(ctx context.Context) error {
	if s.act.inject == nil {
		return nil
	}
	return s.act.inject(ctx)
}

// Bit waits for proof that the fault bit and says what it is.
func (s *Strike) Bit(ctx context.Context) (string, error) {
	if s.act.bit == nil {
		return "done", nil
	}
	text, err := s.act.bit(ctx)
	var v *Violation
	if err != nil && !errors.As(err, &v) {
		err = fmt.Errorf("%w: %w", ErrNoBite, err)
	}
	return text, err
}

// Heal mends.
func (s *Strike) Heal(ctx context.Context) error {
	if s.act.heal == nil {
		return nil
	}
	return s.act.heal(ctx)
}

// Healed waits for proof that nothing of the fault is left, and says what it
// is. It gives the targets' processes free.
func (s *Strike) Healed(ctx context.Context) (string, error) {
	text, err := s.healed(ctx)
	if err == nil {
		s.Release()
	}
	return text, err
}

// Release gives the targets' processes free, also where a heal failed.
func (s *Strike) Release() {
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	for n, owner := range s.lab.owner {
		if owner == s {
			delete(s.lab.owner, n)
		}
	}
}

func (s *Strike) healed(ctx context.Context) (string, error) {
	if s.act.healed != nil {
		return s.act.healed(ctx)
	}
	begun := time.Now()
	for _, n := range s.Targets {
		if n.gone.Load() {
			continue
		}
		if err := s.recovers(ctx, n); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s serve after %s", strings.Join(s.Names(), ", "), time.Since(begun).Round(time.Millisecond)), nil
}

// recovers waits until a node serves. One that the fault had end itself, late,
// is started again, as a service manager does. One that another strike has
// ended meanwhile is that one's to start, and is waited for.
func (s *Strike) recovers(ctx context.Context, n *Node) error {
	const starts = 3
	for i := 0; ; i++ {
		err := s.lab.serves(ctx, n)
		if errors.Is(err, errEnded) && !s.act.owns {
			err = until(ctx, n.Name+" to be started again", func() error {
				if n.gone.Load() || n.Alive() {
					return nil
				}
				return err
			})
			if err == nil && !n.gone.Load() {
				i = 0
				continue
			}
			return err
		}
		if !errors.Is(err, errEnded) || i == starts {
			return err
		}
		if err := s.lab.cluster.StartNode(n.Node); err != nil {
			return err
		}
	}
}

// aimPatience is how long a role may be vacant, as after another fault.
const aimPatience = 5 * time.Second

// aim finds the targets.
func (s *Strike) aim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, aimPatience)
	defer cancel()
	return until(ctx, s.Step.On.String(), func() error {
		v := s.lab.Look(ctx)
		if s.Step.On.Role == scenario.Link {
			var err1, err2 error
			s.from, err1 = s.pick(ctx, v, *s.Step.On.A, nil)
			s.to, err2 = s.pick(ctx, v, *s.Step.On.B, s.from)
			s.Targets = slices.Concat(s.from, s.to)
			return errors.Join(err1, err2)
		}
		var err error
		s.Targets, err = s.pick(ctx, v, s.Step.On, nil)
		return err
	})
}

// pick finds the nodes with a role, none of those in not.
func (s *Strike) pick(ctx context.Context, v View, t scenario.Target, not []*Node) ([]*Node, error) {
	nodes := slices.DeleteFunc(s.lab.Nodes(), func(n *Node) bool { return slices.Contains(not, n) })
	voters := slices.DeleteFunc(slices.Clone(v.Voters), func(n *Node) bool { return slices.Contains(not, n) })
	one := func(from []*Node) ([]*Node, error) {
		if len(from) == 0 {
			return nil, fmt.Errorf("%w: %s", ErrBusy, t)
		}
		return []*Node{from[s.rng.IntN(len(from))]}, nil
	}
	switch t.Role {
	case scenario.Nothing, scenario.Clients:
		return nil, nil
	case scenario.All:
		return nodes, nil
	case scenario.Any:
		return one(nodes)
	case scenario.One:
		name := fmt.Sprintf("node%d", t.N)
		return one(slices.DeleteFunc(nodes, func(n *Node) bool { return n.Name != name }))
	case scenario.Leader:
		if v.Leader == nil || slices.Contains(not, v.Leader) {
			return nil, fmt.Errorf("%w: %s", ErrBusy, t)
		}
		return []*Node{v.Leader}, nil
	case scenario.Follower:
		return one(slices.DeleteFunc(voters, func(n *Node) bool { return n == v.Leader }))
	case scenario.Holder:
		n, err := s.lab.holder(ctx, nodes)
		if err != nil {
			return nil, err
		}
		return []*Node{n}, nil
	case scenario.Minority, scenario.Majority:
		if v.Leader == nil {
			return nil, fmt.Errorf("%w: %s", ErrBusy, t)
		}
		k := (len(v.Voters) - 1) / 2
		if t.Role == scenario.Majority {
			k++
		}
		s.rng.Shuffle(len(voters), func(i, j int) { voters[i], voters[j] = voters[j], voters[i] })
		if i := slices.Index(voters, v.Leader); i >= 0 && s.rng.IntN(2) == 0 {
			voters[0], voters[i] = voters[i], voters[0] // the leader is among them in half of the draws
		}
		return voters[:min(k, len(voters))], nil
	}
	return nil, fmt.Errorf("target %s: unknown role", t)
}

// holder is a node that runs attempts; the one with the most.
func (l *Lab) holder(ctx context.Context, nodes []*Node) (*Node, error) {
	var best *Node
	most := 0
	for _, n := range nodes {
		cl, err := n.asker.client(n.Dir)
		if err != nil {
			return nil, err
		}
		one, cancel := context.WithTimeout(ctx, askTimeout)
		list, err := cl.Nodes(one)
		cancel()
		if err != nil {
			continue
		}
		for _, info := range list.Nodes {
			i := slices.IndexFunc(nodes, func(n *Node) bool { return n.ID == info.ID })
			if i >= 0 && info.Running > most {
				best, most = nodes[i], info.Running
			}
		}
		break
	}
	if best == nil {
		return nil, fmt.Errorf("%w: no node runs a task", ErrBusy)
	}
	return best, nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
