package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Member is one server of the configuration.
type Member struct {
	ID, Addr string
	Voter    bool
	Leader   bool
	// As seen by this node if it leads; otherwise zero.
	LastContact time.Time // zero: not in this term
	LastIndex   uint64
	Healthy     bool
	StableSince time.Time // since when it is healthy; zero if it is not
}

// Members lists the configuration, by ID. Health is known on the leader only.
func (g *Group) Members() []Member {
	info := g.Leader()
	var states map[string]memberState
	if of := g.leadership.office.Load(); of != nil {
		states = g.observe(of.term)
	}
	var out []Member
	for _, s := range g.servers() {
		id := string(s.ID)
		m := Member{ID: id, Addr: string(s.Address), Voter: s.Suffrage == raft.Voter, Leader: id == info.ID}
		if st, ok := states[id]; ok {
			m.LastContact, m.LastIndex = st.health.LastContact, st.health.LastIndex
			m.Healthy, m.StableSince = st.healthy, st.stableSince
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// configChangeTimeout bounds the wait for the leader loop to take a change; it
// does so when the one before is committed.
const configChangeTimeout = 10 * time.Second

// change runs one change of the configuration at a time, after check has
// approved it. A change whose check returns skip is done.
func (g *Group) change(ctx context.Context, action string, check func([]raft.Server) (skip bool, err error), do func() raft.IndexFuture) error {
	select {
	case g.configuring <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if g.leadership.office.Load() == nil {
		<-g.configuring
		return g.notLeader()
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-g.configuring }()
		f := g.raft.GetConfiguration()
		// The future carries no index that could be given as prev. None is
		// needed: changes are made one at a time here, by the one leader, and
		// a deposed leader's change cannot commit.
		if skip, err := check(f.Configuration().Servers); skip || err != nil {
			done <- err
			return
		}
		entry := do()
		err := releasable(entry, g.dead).Error()
		if err == nil { // the library answers whatever the applier says
			if e := g.overlap.wait(entry.Index()); e != nil {
				err = fmt.Errorf("%w (%w)", ErrUnknownOutcome, e)
			}
		}
		if err == nil {
			g.metrics.membership.WithLabelValues(action).Inc()
		}
		done <- err
	}()
	select {
	case err := <-done:
		switch {
		case err == nil:
			return nil
		case errors.Is(err, raft.ErrNotLeader):
			return g.notLeader()
		case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
			err = fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
		}
		return fmt.Errorf("consensus: %s: %w", action, err)
	case <-ctx.Done():
		return fmt.Errorf("consensus: %s: %w: %w", action, ErrUnknownOutcome, ctx.Err())
	}
}

func findServer(servers []raft.Server, id string) (raft.Server, bool) {
	for _, s := range servers {
		if string(s.ID) == id {
			return s, true
		}
	}
	return raft.Server{}, false
}

// AddNonvoter adds a server that gets the log and does not vote. This is how
// every server joins: AddVoter would let it vote before it has the log.
// Autopilot promotes it. A server that is there keeps its vote; do not change
// its address this way while it is replicated to: raft 1.8 reads the record
// that it would write without a lock.
func (g *Group) AddNonvoter(ctx context.Context, id, addr string) error {
	return g.change(ctx, "add_nonvoter", func(servers []raft.Server) (bool, error) {
		s, ok := findServer(servers, id)
		return ok && string(s.Address) == addr, nil
	}, func() raft.IndexFuture {
		// The library keeps the suffrage of a voter and changes its address.
		return g.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, configChangeTimeout)
	})
}

// RemoveServer takes a server out of the configuration; one that is not in it
// is done already. It refuses (ErrUnsafe) what would leave no majority of
// healthy voters. A leader that is to be removed must transfer first.
func (g *Group) RemoveServer(ctx context.Context, id string) error {
	return g.change(ctx, "remove", func(servers []raft.Server) (bool, error) {
		if _, ok := findServer(servers, id); !ok {
			return true, nil
		}
		if id == g.id {
			return false, fmt.Errorf("%w: %s is the leader; transfer the leadership first", ErrUnsafe, id)
		}
		return false, g.safeWithout(servers, id)
	}, func() raft.IndexFuture {
		return g.raft.RemoveServer(raft.ServerID(id), 0, configChangeTimeout)
	})
}

// safeWithout reports whether the voters without id still have a majority of
// healthy ones.
func (g *Group) safeWithout(servers []raft.Server, id string) error {
	of := g.leadership.office.Load()
	if of == nil {
		return g.notLeader()
	}
	states := g.observe(of.term)
	voters, healthy := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter || string(s.ID) == id {
			continue
		}
		voters++
		if states[string(s.ID)].healthy {
			healthy++
		}
	}
	if healthy <= voters/2 {
		return fmt.Errorf("%w: without %s %d of %d voters are healthy", ErrUnsafe, id, healthy, voters)
	}
	return nil
}
