package consensus

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// AutopilotConfig tunes who votes.
type AutopilotConfig struct {
	Disabled bool
	// MaxVoters: 5. More make every commit wait for more disks.
	MaxVoters int
	// Interval between two looks: 1 s. One look makes at most one change.
	Interval time.Duration
	// Stable is how long a server must be healthy before it may vote: 10 s.
	Stable time.Duration
	// Contact is the longest silence of a healthy server: 2 s, eight
	// heartbeat timeouts.
	Contact time.Duration
	// Dead is the silence after which a voter may be replaced: 30 s, longer
	// than a restart.
	Dead time.Duration
	// Trailing is how many entries a healthy server may be behind: 1,024,
	// far below what the leader keeps in its log.
	Trailing uint64
	// Eligible says which servers may vote; nil means all. A node that drains
	// or that has no disk of its own may be kept out.
	Eligible func(id string) bool
}

func (c *AutopilotConfig) setDefaults() {
	orDefault(&c.MaxVoters, 5)
	orDefault(&c.Interval, time.Second)
	orDefault(&c.Stable, 10*time.Second)
	orDefault(&c.Contact, 2*time.Second)
	orDefault(&c.Dead, 30*time.Second)
	orDefault(&c.Trailing, 1024)
}

// memberState is what the leader thinks of one server.
type memberState struct {
	health      Health
	healthy     bool
	stableSince time.Time // zero when not healthy
	silentSince time.Time // zero when in contact
}

// stability remembers since when servers are healthy, within one term: a new
// leader knows nothing and starts from its own observations.
type stability struct {
	mu     sync.Mutex
	term   uint64
	since  time.Time
	states map[string]memberState
}

// observe updates the states from the newest health and returns a copy.
func (g *Group) observe(term uint64) map[string]memberState {
	health := g.contacts.health(term)
	if g.cfg.Health != nil {
		health = g.cfg.Health()
	}
	now, last := g.cfg.Now(), g.raft.LastIndex()
	health[g.id] = Health{LastContact: now, LastIndex: last}
	return g.stability.update(g.cfg.Autopilot, now, term, last, g.servers(), health)
}

func (st *stability) update(cfg AutopilotConfig, now time.Time, term, last uint64, servers []raft.Server, health map[string]Health) map[string]memberState {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.term != term || st.states == nil {
		st.term, st.since, st.states = term, now, nil
	}
	next := make(map[string]memberState, len(servers))
	for _, s := range servers {
		id := string(s.ID)
		old, h := st.states[id], health[id]
		m := memberState{health: h, silentSince: h.LastContact}
		contact := !h.LastContact.IsZero() && now.Sub(h.LastContact) <= cfg.Contact
		switch {
		case contact:
			m.silentSince = time.Time{}
		case h.LastContact.IsZero():
			m.silentSince = st.since // never heard of in this term
		}
		m.healthy = contact && h.LastIndex+cfg.Trailing >= last
		if m.healthy {
			m.stableSince = old.stableSince
			if m.stableSince.IsZero() {
				m.stableSince = now
			}
		}
		next[id] = m
	}
	st.states = next
	out := make(map[string]memberState, len(next))
	for id, m := range next {
		out[id] = m
	}
	return out
}

type planAction uint8

const (
	planNothing planAction = iota
	planPromote
	planDemote
)

type planStep struct {
	action planAction
	id     string
}

// planVoters says which one change of the configuration to make next. Pure.
//
// Voters come in odd numbers: an even one tolerates no more failures than the
// odd one below it and needs one more disk for each commit. So a lone voter
// stays alone until two servers are stable, and so on up to MaxVoters. A voter
// that is dead is replaced: first the stable server gets its vote, then the
// dead one loses its, so that there is no moment with fewer healthy voters. It
// stays as a replica until an operator removes it. Without a replacement, or
// without a majority of healthy voters after the change, nothing happens.
// The leader, self, is never demoted.
func planVoters(cfg AutopilotConfig, now time.Time, self string, servers []raft.Server, states map[string]memberState) planStep {
	var voters, dead, candidates []string
	healthy := 0
	for _, s := range servers {
		id := string(s.ID)
		m := states[id]
		eligible := cfg.Eligible == nil || cfg.Eligible(id)
		switch {
		case s.Suffrage == raft.Voter:
			voters = append(voters, id)
			if m.healthy {
				healthy++
			}
			if id != self && !m.silentSince.IsZero() && now.Sub(m.silentSince) >= cfg.Dead {
				dead = append(dead, id)
			}
		case eligible && m.healthy && now.Sub(m.stableSince) >= cfg.Stable:
			candidates = append(candidates, id)
		}
	}
	slices.Sort(dead)
	// The longest stable first; by ID among equals, so that the choice does
	// not hang on the order of the configuration.
	slices.SortFunc(candidates, func(a, b string) int {
		if c := states[a].stableSince.Compare(states[b].stableSince); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	n := len(voters)
	pair := n%2 == 1 && n+2 <= cfg.MaxVoters && len(candidates) >= 2
	replace := n%2 == 1 && n <= cfg.MaxVoters && len(dead) > 0
	complete := n%2 == 0 && n < cfg.MaxVoters
	switch {
	case !safe(healthy, n):
		return planStep{} // nothing could be committed
	case len(dead) > 0 && (n%2 == 0 || n > cfg.MaxVoters) && safe(healthy, n-1):
		return planStep{planDemote, dead[0]}
	case len(candidates) > 0 && (pair || replace || complete) && safe(healthy+1, n+1):
		return planStep{planPromote, candidates[0]}
	}
	return planStep{}
}

// safe reports whether healthy voters are a majority of voters.
func safe(healthy, voters int) bool { return healthy > voters/2 }

// autopilot is the leader's duty of keeping the right servers voting.
func (g *Group) autopilot(ctx context.Context, term uint64) {
	tick := time.NewTicker(g.cfg.Autopilot.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		step := planVoters(g.cfg.Autopilot, g.cfg.Now(), g.id, g.servers(), g.observe(term))
		if err := g.carryOut(ctx, step); err != nil && ctx.Err() == nil {
			g.log.Warn("change of voters failed, will look again", "server", step.id, "error", err)
		}
	}
}

func (g *Group) carryOut(ctx context.Context, step planStep) error {
	switch step.action {
	case planPromote:
		var addr raft.ServerAddress
		return g.change(ctx, "promote", func(servers []raft.Server) (bool, error) {
			s, ok := findServer(servers, step.id)
			addr = s.Address
			return !ok || s.Suffrage == raft.Voter, nil
		}, func() raft.IndexFuture {
			return g.raft.AddVoter(raft.ServerID(step.id), addr, 0, configChangeTimeout)
		})
	case planDemote:
		return g.change(ctx, "demote", func(servers []raft.Server) (bool, error) {
			s, ok := findServer(servers, step.id)
			if !ok || s.Suffrage != raft.Voter {
				return true, nil
			}
			return false, g.safeWithout(servers, step.id)
		}, func() raft.IndexFuture {
			return g.raft.DemoteVoter(raft.ServerID(step.id), 0, configChangeTimeout)
		})
	}
	return nil
}
