package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Membership takes part in the cluster's gossip until Close.
type Membership struct {
	cfg    Config
	list   *memberlist.Memberlist
	ctx    context.Context // of our goroutines
	cancel context.CancelFunc
	group  sync.WaitGroup
	wake   chan struct{} // capacity 1: events wait
	meta   atomic.Pointer[[]byte]
	busy   atomic.Bool // a join is under way

	mu      sync.Mutex
	members map[string]Member
	events  []event
}

type event struct {
	member Member
	addr   string // as memberlist knows it: an IP and a port, so that no name must be looked up
	dead   bool
}

// New begins to gossip. It knows only itself until the first join, which
// happens at once and in the background.
func New(cfg Config) (*Membership, error) {
	cfg = cfg.withDefaults()
	meta, err := cfg.Meta.encode()
	if err != nil {
		return nil, err
	}
	m := &Membership{cfg: cfg, wake: make(chan struct{}, 1), members: map[string]Member{}}
	m.ctx, m.cancel = context.WithCancel(context.Background()) // ends with Close
	m.meta.Store(&meta)
	if m.list, err = memberlist.Create(cfg.memberlist(&delegate{m})); err != nil {
		m.cancel()
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	m.group.Go(m.run)
	return m, nil
}

// SetMeta changes what the node says of itself.
func (m *Membership) SetMeta(meta Meta) error {
	b, err := meta.encode()
	if err != nil {
		return err
	}
	m.meta.Store(&b)
	if err := m.list.UpdateNode(streamTimeout); err != nil {
		return fmt.Errorf("tell the new description: %w", err)
	}
	return nil
}

// Members returns everybody that gossip knows, this node included, by ID. The
// dead stay listed until they are removed from the cluster.
func (m *Membership) Members() []Member {
	m.mu.Lock()
	members := make([]Member, 0, len(m.members))
	for _, member := range m.members {
		members = append(members, member)
	}
	m.mu.Unlock()
	members = slices.DeleteFunc(members, func(member Member) bool { return !m.allowed(member.ID) })
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

// Resolve returns the address that a node was last seen at, alive or not.
func (m *Membership) Resolve(id string) (addr string, ok bool) {
	m.mu.Lock()
	member, ok := m.members[id]
	m.mu.Unlock()
	if !ok || !m.allowed(id) {
		return "", false
	}
	return member.Addr, true
}

// Alive reports whether gossip holds a node as alive.
func (m *Membership) Alive(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members[id].Alive
}

// Close says goodbye to the others, within the time that ctx has, and ends
// gossip and its transport.
func (m *Membership) Close(ctx context.Context) error {
	timeout := streamTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Millisecond)
	}
	begin := time.Now()
	if meta, err := decodeMeta(*m.meta.Load()).leaving(); err == nil {
		m.meta.Store(&meta)
		_ = m.list.UpdateNode(timeout / 2) // a courtesy: without it the others call us dead
	}
	leave := m.list.Leave(max(timeout-time.Since(begin), time.Millisecond))
	m.cancel()
	err := errors.Join(leave, m.list.Shutdown())
	m.group.Wait()
	if err != nil {
		return fmt.Errorf("end gossip: %w", err)
	}
	return nil
}

func (m *Membership) allowed(id string) bool { return id == m.cfg.ID || m.cfg.Allowed(id) }

// run passes events on and rejoins, until Close.
func (m *Membership) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for round := 0; ; {
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
			m.deliver()
		case <-timer.C:
			pause := m.cfg.Rejoin
			if round < firstRejoins {
				pause = min(pause, firstRejoin)
			}
			m.rejoin(round < firstRejoins)
			round++
			timer.Reset(pause)
		}
	}
}

// rejoin joins those who should be there and are not; everybody at first.
func (m *Membership) rejoin(all bool) {
	var missing []string
	for _, p := range m.cfg.Peers() {
		if p.ID != m.cfg.ID && p.Addr != "" && m.allowed(p.ID) && (all || !m.Alive(p.ID)) {
			missing = append(missing, p.ID+"/"+p.Addr)
			// It may have moved since the state heard of it, or moved back.
			if seen, ok := m.Resolve(p.ID); ok && seen != p.Addr {
				missing = append(missing, p.ID+"/"+seen)
			}
		}
	}
	if len(missing) == 0 || !m.busy.CompareAndSwap(false, true) {
		return
	}
	m.group.Go(func() {
		defer m.busy.Store(false)
		// One at a time, so that Close does not wait for all of them.
		for _, address := range missing {
			if m.ctx.Err() != nil {
				return
			}
			if _, err := m.list.Join([]string{address}); err != nil {
				m.cfg.Logger.Debug("could not join a peer", "peer", address, "error", err)
			}
		}
	})
}

// note files an event from memberlist, whose lock is held.
func (m *Membership) note(n *memberlist.Node, alive bool) {
	member := Member{ID: n.Name, Addr: n.Address(), Meta: decodeMeta(n.Meta), Alive: alive, Since: m.cfg.Now()}
	// memberlist tells "left" and "dead" apart, but not in what it passes here
	// (Node.State is never set in events), so the node says it itself.
	member.Left = !alive && member.Meta.Leaving
	// The address that the node was told to announce is better than the one
	// memberlist carries, which is an IP without a host name.
	if _, _, err := net.SplitHostPort(member.Meta.Addr); err == nil {
		member.Addr = member.Meta.Addr
	}
	m.mu.Lock()
	old, known := m.members[member.ID]
	if known && old.Alive == alive {
		member.Since = old.Since
	}
	if known || len(m.members) < maxRemembered {
		m.members[member.ID] = member
	}
	if len(m.events) < maxQueuedEvent {
		m.events = append(m.events, event{member: member, addr: n.Address(), dead: !alive && !member.Left})
	}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// deliver calls back for what was noted.
func (m *Membership) deliver() {
	m.mu.Lock()
	events := m.events
	m.events = nil
	m.mu.Unlock()
	for _, e := range events {
		if e.member.ID == m.cfg.ID {
			continue
		}
		m.cfg.OnChange(e.member)
		if e.dead && m.ctx.Err() == nil {
			m.cfg.OnDead(e.member, m.confirm(e))
		}
	}
}

// confirm asks a node that others call dead ourselves. A rumour alone could be
// the fault of whoever started it. It takes at most the probe's timeout.
func (m *Membership) confirm(e event) int {
	addr, err := netip.ParseAddrPort(e.addr)
	if err != nil {
		return 0
	}
	if _, err := m.list.Ping(e.member.ID, net.UDPAddrFromAddrPort(addr)); err != nil {
		return 1
	}
	return 0
}

// delegate is what memberlist calls, with its lock held.
type delegate struct{ m *Membership }

func (d *delegate) NodeMeta(int) []byte { return *d.m.meta.Load() }

// NotifyAlive refuses nodes that the cluster has removed.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if !d.m.allowed(n.Name) {
		return fmt.Errorf("node %s was removed from the cluster", n.Name)
	}
	return nil
}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.m.note(n, true) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.m.note(n, true) }
func (d *delegate) NotifyLeave(n *memberlist.Node)  { d.m.note(n, false) }

// The rest of memberlist's delegate is for messages and state of the
// application: there are none.
func (d *delegate) NotifyMsg([]byte)                           {}
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte { return nil }
func (d *delegate) LocalState(join bool) []byte                { return nil }
func (d *delegate) MergeRemoteState(buf []byte, join bool)     {}
