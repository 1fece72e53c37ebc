package consensus

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// contacts is what this node knows about its peers from the AppendEntries that
// it sends (as a leader), and about the leader from those that it gets.
//
// It exists because the library's own VerifyLeader is not strict enough for
// linearizable reads: it counts the answer to a heartbeat that was sent before
// the read began, and it counts non-voters. With elections by evidence, which
// wait for no lease, both let a deposed leader answer with old data. So we
// count ourselves: voters, and only answers to requests sent after the start.
type contacts struct {
	now func() time.Time

	mu    sync.Mutex
	seq   uint64              // guarded by mu; orders sends and rounds
	peers map[string]*contact // guarded by mu

	// What a follower last heard, guarded by mu. See heard.
	freshAt   time.Time
	pendingAt time.Time
	pendingIx uint64
	heardAt   time.Time // when the last message came, and of which term it was
	heardTerm uint64

	ledAt time.Time // guarded by mu; see led

	acked chan struct{} // capacity 1: a peer has answered
}

type contact struct {
	term   uint64    // of the newest answer
	seq    uint64    // when the answered request was sent
	sentAt time.Time // the same as a time
	last   uint64    // last index in its log
}

func newContacts(now func() time.Time) *contacts {
	return &contacts{now: now, peers: map[string]*contact{}, acked: make(chan struct{}, 1)}
}

// mark returns a point in the order of sends.
func (c *contacts) mark() (uint64, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	return c.seq, c.now()
}

// answered records that peer accepted a request of the given term that was
// sent at the mark.
func (c *contacts) answered(peer string, term, seq uint64, sentAt time.Time, last uint64) {
	c.mu.Lock()
	p := c.peers[peer]
	if p == nil {
		p = &contact{}
		c.peers[peer] = p
	}
	if term > p.term || term == p.term && seq > p.seq {
		p.term, p.seq, p.sentAt = term, seq, sentAt
	}
	p.last = last
	c.mu.Unlock()
	select {
	case c.acked <- struct{}{}:
	default:
	}
}

// confirmed reports whether a majority of the voters accepted this leader of
// this term in answers to requests sent after the mark.
func (c *contacts) confirmed(self string, servers []raft.Server, term, mark uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	voters, yes := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		p := c.peers[string(s.ID)]
		if string(s.ID) == self || p != nil && p.term == term && p.seq > mark {
			yes++
		}
	}
	return voters > 0 && yes > voters/2
}

// quorumAt is the latest time at which a majority of the voters is known to
// have followed this leader; zero if never.
func (c *contacts) quorumAt(self string, servers []raft.Server, term uint64) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var at []time.Time
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		switch p := c.peers[string(s.ID)]; {
		case string(s.ID) == self:
			at = append(at, c.now())
		case p != nil && p.term == term:
			at = append(at, p.sentAt)
		default:
			at = append(at, time.Time{})
		}
	}
	if len(at) == 0 {
		return time.Time{}
	}
	slices.SortFunc(at, func(a, b time.Time) int { return b.Compare(a) })
	return at[len(at)/2] // with n voters the first n/2+1 are a majority
}

// led records, at the end of an office, when a majority was last known to
// follow it. The state stays as current as it was then.
func (c *contacts) led(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.ledAt) {
		c.ledAt = at
	}
}

// heard records that the leader of a term told its commit index. The state is
// as fresh as the last such message whose commit index is applied here.
// Heartbeats carry no commit index and do not count: they go on while
// replication is stuck.
//
// The message tells what was committed when it was sent, not when it came, and
// the way may be long: a write that was acknowledged meanwhile is not in it. A
// leader sends the next one only after the answer to the one before (the link
// hands on no pipeline), so it was sent after the one before had come: that is
// as of when it counts. The first of a term therefore tells nothing yet.
func (c *contacts) heard(term, commit, applied uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleLocked(applied)
	asOf, first := c.heardAt, c.heardTerm != term
	c.heardTerm, c.heardAt = term, c.now()
	switch {
	case first:
	case commit <= applied:
		c.freshAt, c.pendingAt = asOf, time.Time{}
	case c.pendingAt.IsZero():
		c.pendingAt, c.pendingIx = asOf, commit
	}
}

func (c *contacts) settleLocked(applied uint64) {
	if !c.pendingAt.IsZero() && c.pendingIx <= applied {
		c.freshAt, c.pendingAt = c.pendingAt, time.Time{}
	}
}

// fresh is the time as of which the state of a node out of office is known to
// be current, from the leader's word or from its own last office; zero if never.
func (c *contacts) fresh(applied uint64) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleLocked(applied)
	if c.ledAt.After(c.freshAt) {
		return c.ledAt
	}
	return c.freshAt
}

// Health is what the leader knows about a server.
type Health struct {
	LastContact time.Time // when the last answered request was sent; zero = never in this term
	LastIndex   uint64    // last index in its log, as of then
}

// health returns what answers of this term say.
func (c *contacts) health(term uint64) map[string]Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]Health, len(c.peers))
	for id, p := range c.peers {
		if p.term == term {
			out[id] = Health{LastContact: p.sentAt, LastIndex: p.last}
		}
	}
	return out
}
