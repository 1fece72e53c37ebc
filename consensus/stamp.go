package consensus

import (
	"sync"
	"time"
)

// stamps keeps the time of the state: what batches are stamped with. It is the
// leader's clock, but never before that of an earlier batch. Just after an
// election it may be before a batch of an earlier leader's that is not applied
// here yet; the state takes the later of the two (see StateMachine).
//
// The obvious rule, the later of the clock and the latest stamp, breaks twice
// when a clock is set. After a leader whose clock was an hour ahead the state's
// time would stand still for that hour, and every timer in the state with it. So
// while the clock is behind, the time goes on from the latest stamp, a tenth
// slower than time passes, until the two meet. And a leader whose clock is set
// forward by an hour would end every task that may wait or run for less. So a
// node that has seen the state's time go on as time passes, by a clock that
// nobody sets, lets it go on at most a tenth faster.
//
// What a node has not seen it cannot know: after its start, and where its clock
// never agreed with the leaders', its clock counts as it is. Or the time of a
// cluster that was down for a night would lag for days.
type stamps struct {
	mu     sync.Mutex
	last   int64     // the latest stamp, guarded by mu
	at     time.Time // when it was that, by the clock that nobody sets, guarded by mu
	steady bool      // the stamps have gone on as time has, guarded by mu
}

// inStep is by how much a stamp and a clock, or what has passed, may differ to
// count as the same time: far above the way of a batch to a slow follower.
const inStep = 10 * time.Second

func (p *proposer) passing() time.Time {
	if p.elapsed != nil {
		return p.elapsed()
	}
	return p.now()
}

// witness notes the time of a batch that was applied here, whoever stamped it.
func (p *proposer) witness() {
	s := &p.stamps
	s.mu.Lock()
	defer s.mu.Unlock()
	if applied := p.smNow(); applied > s.last || s.at.IsZero() {
		s.take(applied, p.now().UnixNano(), p.passing())
	}
}

// take is a stamp that somebody else made. The caller holds mu.
func (s *stamps) take(stamp, wall int64, at time.Time) {
	due := s.last + int64(at.Sub(s.at))
	s.steady = s.steady && near(stamp, due) || near(stamp, wall)
	s.last, s.at = stamp, at
}

func near(a, b int64) bool { return max(a-b, b-a) <= int64(inStep) }

// stamp is the time of the next batch.
func (p *proposer) stamp() int64 {
	s := &p.stamps
	s.mu.Lock()
	defer s.mu.Unlock()
	wall, at := p.now().UnixNano(), p.passing()
	if applied := p.smNow(); applied > s.last || s.at.IsZero() {
		s.take(applied, wall, at)
	}
	passed := int64(max(0, at.Sub(s.at)))
	next := max(wall, s.last+passed-passed/10)
	if s.steady {
		next = min(next, s.last+passed+passed/10)
	}
	s.last, s.at, s.steady = next, at, true
	return next
}
