package consensus

import (
	"slices"
	"time"
)

// The kinds of evidence against a leader.
const (
	// KindPortUnreachable: the leader's kernel says that no process has its
	// port. Proof that the process is gone (or that someone forges ICMP).
	KindPortUnreachable = "port_unreachable"
	// KindConnectionClosed: the leader closed its connections by itself.
	KindConnectionClosed = "connection_closed"
	// KindStatelessReset: the leader's process has lost its connections, so
	// it is a new one.
	KindStatelessReset = "stateless_reset"
	// KindGossipDead: gossip declared the leader dead. Needs confirmations.
	KindGossipDead = "gossip_dead"
)

var evidenceKinds = []string{KindPortUnreachable, KindConnectionClosed, KindStatelessReset, KindGossipDead}

// FailoverConfig tunes failover by evidence.
type FailoverConfig struct {
	Disabled bool
	// Step is the distance between the ranks of the followers, so that two do
	// not become candidates at once: 50 ms, several round trips.
	Step time.Duration
	// Again is the pause before the first-ranked follower tries again: 30 ms.
	Again time.Duration
	// Stay is how long another leader must stay before the verdict falls:
	// 500 ms, longer than a leader's lease. A candidate that loses for its
	// shorter log would otherwise wait a whole election timeout.
	Stay time.Duration
	// Verdict is how long a verdict stands at most: 1.5 s, then the timers.
	Verdict time.Duration
	// PerMinute bounds the elections that this node starts by evidence: 10.
	PerMinute int
	// Confirmations that KindGossipDead needs: 1.
	Confirmations int
}

func (c *FailoverConfig) setDefaults() {
	orDefault(&c.Step, 50*time.Millisecond)
	orDefault(&c.Again, 30*time.Millisecond)
	orDefault(&c.Stay, 500*time.Millisecond)
	orDefault(&c.Verdict, 1500*time.Millisecond)
	orDefault(&c.PerMinute, 10)
	orDefault(&c.Confirmations, 1)
}

// The outcomes of evidence, as in the metric.
const (
	outcomeVerdict     = "verdict"      // the leader is held dead
	outcomeStanding    = "standing"     // it already was
	outcomeNotLeader   = "not_leader"   // it is about someone else
	outcomeNotVoter    = "not_voter"    // this node may not be a candidate
	outcomeUnconfirmed = "unconfirmed"  // gossip alone
	outcomeUnknownKind = "unknown_kind" //
	outcomeLimited     = "rate_limited" // no election left in this minute
	outcomeOverflow    = "overflow"     // more at once than the queue holds
)

type evidence struct {
	peer, kind    string
	confirmations int
}

// situation is what the decision looks at besides its own memory.
type situation struct {
	leader LeaderInfo
	self   string
	voters []string // sorted
}

// failover decides when to start an election. It is pure: it has no clock and
// no goroutine, and is driven by failoverDriver.
//
// The naive rule, "on evidence start an election", fails in two ways. Two
// followers that learn at the same moment split the vote and then wait a whole
// election timeout: so they are ranked. And the first candidate may lose
// because its log is shorter, which clears everybody's leader without making a
// new one: so the verdict stands, and its holders try again in their order,
// until another leader has stayed for a while.
type failover struct {
	cfg FailoverConfig

	suspect  string    // the leader held dead, "" if none
	term     uint64    // of its office
	until    time.Time // when the verdict falls by itself
	fireAt   time.Time // when to start the next election
	stayedAt time.Time // since when there is another leader, zero if none

	fired []time.Time // elections of the last minute
}

// report weighs one piece of evidence.
func (f *failover) report(now time.Time, e evidence, s situation) string {
	switch {
	case f.cfg.Disabled || !slices.Contains(evidenceKinds, e.kind):
		return outcomeUnknownKind
	case f.suspect != "" && e.peer == f.suspect:
		return outcomeStanding
	case e.peer == "" || s.leader.Self || e.peer != s.leader.ID || e.peer == s.self:
		return outcomeNotLeader
	case !slices.Contains(s.voters, s.self):
		return outcomeNotVoter
	case e.kind == KindGossipDead && e.confirmations < f.cfg.Confirmations:
		return outcomeUnconfirmed
	case !f.allowed(now):
		return outcomeLimited
	}
	f.suspect, f.term = e.peer, s.leader.Term
	f.until = now.Add(f.cfg.Verdict)
	f.stayedAt = time.Time{}
	f.fireAt = now.Add(time.Duration(f.rank(s)) * f.cfg.Step)
	return outcomeVerdict
}

// ahead: a candidate that the evidence made asked for this node's vote and could
// not get it, because this node's log goes further. Where two followers are left
// it can win nobody's vote but ours, and every election of its own only takes
// time: so this node, which can win, goes at once, whatever its rank, and even if
// the evidence has not reached it yet.
func (f *failover) ahead(now time.Time, s situation) {
	switch {
	case f.cfg.Disabled || s.leader.Self || !slices.Contains(s.voters, s.self) || !f.allowed(now):
		return
	case f.suspect == "" || !now.Before(f.until):
		f.suspect, f.term = s.leader.ID, s.leader.Term
		if f.suspect == "" {
			f.suspect = nobody
		}
		f.until = now.Add(f.cfg.Verdict)
	}
	f.stayedAt = time.Time{}
	f.fireAt = now
}

// nobody is the suspect where no leader was known any more. No node has this ID.
const nobody = "?"

// rank is this node's place among the voters that may follow the suspect.
func (f *failover) rank(s situation) int {
	rank := 0
	for _, v := range s.voters {
		if v == s.self {
			break
		}
		if v != f.suspect {
			rank++
		}
	}
	return rank
}

// allowed counts the elections of the last minute.
func (f *failover) allowed(now time.Time) bool {
	for len(f.fired) > 0 && now.Sub(f.fired[0]) >= time.Minute {
		f.fired = f.fired[1:]
	}
	return len(f.fired) < f.cfg.PerMinute
}

// step says whether to start an election now, and when to ask again; zero when
// there is nothing to wait for. Call it when the leader changes, too.
func (f *failover) step(now time.Time, s situation) (fire bool, next time.Time) {
	if f.suspect == "" {
		return false, time.Time{}
	}
	if !now.Before(f.until) || s.leader.Self || !slices.Contains(s.voters, s.self) {
		f.suspect = ""
		return false, time.Time{}
	}
	other := s.leader.ID != "" && (s.leader.ID != f.suspect || s.leader.Term > f.term)
	if other {
		if f.stayedAt.IsZero() {
			f.stayedAt = now
		}
		if stays := f.stayedAt.Add(f.cfg.Stay); now.Before(stays) {
			return false, earlier(stays, f.until)
		}
		f.suspect = ""
		return false, time.Time{}
	}
	if !f.stayedAt.IsZero() { // it came and went: the vote was lost
		f.stayedAt = time.Time{}
		f.fireAt = now.Add(time.Duration(f.rank(s)) * f.cfg.Step)
	}
	if now.Before(f.fireAt) {
		return false, earlier(f.fireAt, f.until)
	}
	if !f.allowed(now) {
		f.suspect = ""
		return false, time.Time{}
	}
	f.fired = append(f.fired, now)
	f.fireAt = now.Add(f.cfg.Again + time.Duration(f.rank(s))*f.cfg.Step)
	return true, earlier(f.fireAt, f.until)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
