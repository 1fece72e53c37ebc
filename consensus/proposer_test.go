package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

// fakeLog stands in for raft behind a proposer: the test answers each entry.
type fakeLog struct {
	entries chan *fakeEntry
	index   atomic.Uint64
}

type fakeEntry struct {
	data     []byte
	done     chan struct{}
	err      error
	response any
	index    uint64
	term     uint64
}

func (e *fakeEntry) Error() error  { <-e.done; return e.err }
func (e *fakeEntry) Response() any { return e.response }
func (e *fakeEntry) Index() uint64 { return e.index }

// commands splits an entry again.
func (e *fakeEntry) commands() []string {
	var out []string
	for b := e.data[8:]; len(b) > 0; {
		n, k := binary.Uvarint(b)
		out = append(out, string(b[k:k+int(n)]))
		b = b[k+int(n):]
	}
	return out
}

func (e *fakeEntry) time() int64 { return int64(binary.BigEndian.Uint64(e.data)) }

// commit answers every command with itself.
func (e *fakeEntry) commit() {
	o := &outcome{}
	for _, c := range e.commands() {
		o.results = append(o.results, fsm.Result{Detail: c})
	}
	e.response = o
	close(e.done)
}

func (e *fakeEntry) fail(err error) {
	e.err = err
	close(e.done)
}

// withProposer runs a proposer over a fake log on a virtual clock.
func withProposer(t *testing.T, limits ProposerLimits, body func(*testing.T, *proposer, *fakeLog)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		l := &fakeLog{entries: make(chan *fakeEntry, 100)}
		p := newProposer()
		orDefault(&limits.EntryBytes, 1000)
		orDefault(&limits.QueueBytes, 8*limits.EntryBytes)
		orDefault(&limits.QueueCommands, 1000)
		p.limits, p.encode, p.now, p.metrics = limits, encodeTestBatch, time.Now, m
		p.smNow = func() int64 { return 0 }
		p.leader = func() *NotLeaderError { return &NotLeaderError{ID: "other"} }
		p.stuck, p.onStuck = time.Second, func() {}
		p.apply = func(b []byte, term uint64) raft.ApplyFuture {
			e := &fakeEntry{data: b, term: term, done: make(chan struct{}), index: l.index.Add(1)}
			l.entries <- e
			return e
		}
		p.open(5)
		var wg sync.WaitGroup
		wg.Go(p.run)
		defer wg.Wait()
		defer p.shut(gateStopped)
		body(t, p, l)
	})
}

type got struct {
	results []fsm.Result
	index   uint64
	err     error
}

func collect(ch chan got) func([]fsm.Result, uint64, error) {
	return func(r []fsm.Result, i uint64, err error) { ch <- got{r, i, err} }
}

// One entry is in flight, and what arrives meanwhile is the next entry. With
// one entry per command, or a window, the second entry would not hold all.
func TestProposerGathersWhileAnEntryIsInFlight(t *testing.T) {
	withProposer(t, ProposerLimits{}, func(t *testing.T, p *proposer, l *fakeLog) {
		answers := make(chan got, 100)
		p.propose(0, [][]byte{[]byte("first")}, collect(answers))
		e1 := <-l.entries
		for i := range 10 {
			p.propose(0, [][]byte{fmt.Appendf(nil, "a%d", i), fmt.Appendf(nil, "b%d", i)}, collect(answers))
		}
		synctest.Wait()
		if len(l.entries) != 0 {
			t.Fatal("a second entry while one is in flight")
		}
		e1.commit()
		e2 := <-l.entries
		if n := len(e2.commands()); n != 20 {
			t.Fatalf("the second entry holds %d commands, want 20", n)
		}
		e2.commit()
		if a := <-answers; a.err != nil || a.results[0].Detail != "first" || a.index != 1 {
			t.Fatalf("first answer %+v", a)
		}
		for i := range 10 {
			a := <-answers
			want := []string{fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i)}
			if a.err != nil || len(a.results) != 2 || a.results[0].Detail != want[0] || a.results[1].Detail != want[1] || a.index != 2 {
				t.Fatalf("answer %d is %+v", i, a)
			}
		}
	})
}

func TestProposerBounds(t *testing.T) {
	// guards P10
	limits := ProposerLimits{EntryBytes: 100, QueueBytes: 300, QueueCommands: 8}
	withProposer(t, limits, func(t *testing.T, p *proposer, l *fakeLog) {
		answers := make(chan got, 100)
		cmd := bytes.Repeat([]byte("x"), 42) // 50 with its overhead
		p.propose(0, [][]byte{bytes.Repeat([]byte("x"), 93)}, collect(answers))
		if a := <-answers; !errors.Is(a.err, ErrTooLarge) {
			t.Fatalf("over-long command: %v", a.err)
		}
		p.propose(0, nil, collect(answers))
		if a := <-answers; !errors.Is(a.err, ErrTooLarge) {
			t.Fatalf("no command: %v", a.err)
		}
		p.propose(0, [][]byte{cmd}, collect(answers))
		inFlight := <-l.entries
		for range 6 { // fills the queue's 300 bytes
			p.propose(0, [][]byte{cmd}, collect(answers))
		}
		p.propose(0, [][]byte{cmd}, collect(answers))
		if a := <-answers; !errors.Is(a.err, ErrOverloaded) {
			t.Fatalf("full queue: %v", a.err)
		}
		inFlight.commit()
		for range 3 { // two per entry
			e := <-l.entries
			if n := len(e.commands()); n != 2 {
				t.Fatalf("%d commands in an entry of 100 bytes", n)
			}
			e.commit()
		}
		for range 7 {
			if a := <-answers; a.err != nil {
				t.Fatal(a.err)
			}
		}
		// By count: 8 tiny ones fit, the ninth does not.
		p.propose(0, [][]byte{{1}}, collect(answers))
		inFlight = <-l.entries
		for range 8 {
			p.propose(0, [][]byte{{1}}, collect(answers))
		}
		p.propose(0, [][]byte{{1}}, collect(answers))
		if a := <-answers; !errors.Is(a.err, ErrOverloaded) {
			t.Fatalf("full by count: %v", a.err)
		}
		inFlight.commit()
		(<-l.entries).commit()
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.bytes != 0 || p.commands != 0 {
			t.Fatalf("an empty queue counts %d bytes, %d commands", p.bytes, p.commands)
		}
	})
}

func TestProposerTellsRefusalsFromUnknownOutcomes(t *testing.T) {
	withProposer(t, ProposerLimits{}, func(t *testing.T, p *proposer, l *fakeLog) {
		answers := make(chan got, 100)
		var nl *NotLeaderError
		for _, c := range []struct {
			name  string
			fail  error
			check func(error) bool
		}{
			{"not the leader", raft.ErrNotLeader, func(err error) bool { return errors.As(err, &nl) && !errors.Is(err, ErrUnknownOutcome) }},
			{"lost", raft.ErrLeadershipLost, func(err error) bool { return errors.Is(err, ErrUnknownOutcome) }},
			{"shutdown", raft.ErrRaftShutdown, func(err error) bool { return errors.Is(err, ErrUnknownOutcome) }},
			{"restore", raft.ErrAbortedByRestore, func(err error) bool { return errors.Is(err, ErrUnknownOutcome) }},
			{"disk", errors.New("no space left"), func(err error) bool { return errors.Is(err, ErrUnknownOutcome) }},
		} {
			p.propose(0, [][]byte{[]byte("x")}, collect(answers))
			(<-l.entries).fail(c.fail)
			if a := <-answers; !c.check(a.err) {
				t.Errorf("%s: %v", c.name, a.err)
			}
		}
		// A wrong number of results must not be dealt out.
		p.propose(0, [][]byte{[]byte("x")}, collect(answers))
		e := <-l.entries
		e.response = &outcome{}
		close(e.done)
		if a := <-answers; !errors.Is(a.err, ErrUnknownOutcome) {
			t.Errorf("too few results: %v", a.err)
		}
	})
}

// What waits when the office ends was never appended: a definite refusal, so
// that the caller may retry elsewhere even without a request ID.
func TestProposerRefusesTheQueueWhenTheOfficeEnds(t *testing.T) {
	withProposer(t, ProposerLimits{}, func(t *testing.T, p *proposer, l *fakeLog) {
		answers := make(chan got, 10)
		p.propose(0, [][]byte{[]byte("in flight")}, collect(answers))
		e := <-l.entries
		p.propose(0, [][]byte{[]byte("queued")}, collect(answers))
		p.shut(gateClosed)
		e.fail(raft.ErrLeadershipLost)
		if a := <-answers; !errors.Is(a.err, ErrUnknownOutcome) {
			t.Errorf("in flight: %v", a.err)
		}
		var nl *NotLeaderError
		if a := <-answers; !errors.As(a.err, &nl) {
			t.Errorf("queued: %v", a.err)
		}
		p.propose(0, [][]byte{[]byte("late")}, collect(answers))
		if a := <-answers; !errors.As(a.err, &nl) {
			t.Errorf("late: %v", a.err)
		}
		if len(l.entries) != 0 {
			t.Error("something was appended after the office ended")
		}
		// Elected again: proposed at once, no round of its own comes first.
		p.open(7)
		p.propose(0, [][]byte{[]byte("next")}, collect(answers))
		(<-l.entries).commit()
		if a := <-answers; a.err != nil {
			t.Error(a.err)
		}
		p.shut(gateStopped)
		p.propose(0, [][]byte{[]byte("end")}, collect(answers))
		if a := <-answers; !errors.Is(a.err, ErrStopped) {
			t.Errorf("stopped: %v", a.err)
		}
	})
}

// What waits when one office ends is not appended in this node's next one: it
// was decided on what an older office knew.
//
// guards P3
func TestProposerKeepsOfficesApart(t *testing.T) {
	withProposer(t, ProposerLimits{}, func(t *testing.T, p *proposer, l *fakeLog) {
		answers := make(chan got, 10)
		var nl *NotLeaderError
		p.propose(0, [][]byte{[]byte("in flight")}, collect(answers))
		e := <-l.entries
		if e.term != 5 {
			t.Errorf("the first office's entry is bound to term %d, want 5", e.term)
		}
		p.propose(0, [][]byte{[]byte("queued")}, collect(answers))
		p.propose(5, [][]byte{[]byte("queued for its office")}, collect(answers))
		// Lost and won again before the entry in flight has an answer.
		p.shut(gateClosed)
		p.open(7)
		p.propose(5, [][]byte{[]byte("of the first office")}, collect(answers))
		if a := <-answers; !errors.As(a.err, &nl) {
			t.Errorf("proposed late for the first office: %v", a.err)
		}
		p.propose(7, [][]byte{[]byte("of the second")}, collect(answers))
		e.fail(raft.ErrLeadershipLost)
		if a := <-answers; !errors.Is(a.err, ErrUnknownOutcome) {
			t.Errorf("in flight: %v", a.err)
		}
		for range 2 {
			if a := <-answers; !errors.As(a.err, &nl) {
				t.Errorf("queued in the first office: %v", a.err)
			}
		}
		e = <-l.entries
		if e.term != 7 || !bytes.Contains(e.data, []byte("of the second")) || bytes.Contains(e.data, []byte("queued")) {
			t.Errorf("the second office's entry has term %d and holds %q", e.term, e.data)
		}
		e.commit()
		if a := <-answers; a.err != nil {
			t.Error(a.err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.bytes != 0 || p.commands != 0 {
			t.Errorf("%d bytes and %d commands are still counted as queued", p.bytes, p.commands)
		}
	})
}

// A transfer makes raft refuse entries for a while: they wait. If it refuses
// for ever (hashicorp/raft issue 696) the node must notice; without the bound
// this test would never end.
func TestProposerWaitsOutATransferButNotForEver(t *testing.T) {
	withProposer(t, ProposerLimits{}, func(t *testing.T, p *proposer, l *fakeLog) {
		stuck := make(chan struct{})
		p.onStuck = func() { close(stuck) }
		answers := make(chan got, 10)
		p.propose(0, [][]byte{[]byte("x")}, collect(answers))
		for range 5 {
			(<-l.entries).fail(raft.ErrLeadershipTransferInProgress)
		}
		(<-l.entries).commit()
		if a := <-answers; a.err != nil {
			t.Fatal(a.err)
		}
		p.propose(0, [][]byte{[]byte("y")}, collect(answers))
		for open := true; open; {
			select {
			case e := <-l.entries:
				e.fail(raft.ErrLeadershipTransferInProgress)
			case <-stuck:
				open = false
			}
		}
		if a := <-answers; !errors.Is(a.err, ErrStopped) {
			t.Fatal(a.err)
		}
	})
}

func TestProposerTimeNeverRunsBack(t *testing.T) {
	withProposer(t, ProposerLimits{}, func(t *testing.T, p *proposer, l *fakeLog) {
		clock, state := time.Unix(1000, 0), time.Unix(0, 0).UnixNano()
		p.now = func() time.Time { return clock }
		p.smNow = func() int64 { return state }
		next := func() int64 {
			p.propose(0, [][]byte{[]byte("x")}, func([]fsm.Result, uint64, error) {})
			e := <-l.entries
			e.commit()
			synctest.Wait()
			return e.time()
		}
		if got := next(); got != time.Unix(1000, 0).UnixNano() {
			t.Errorf("first at %d", got)
		}
		clock = time.Unix(900, 0) // the clock is set back
		if got := next(); got != time.Unix(1000, 0).UnixNano() {
			t.Errorf("ran back to %d", got)
		}
		state = time.Unix(2000, 0).UnixNano() // an earlier leader's clock was ahead
		if got := next(); got != state {
			t.Errorf("got %d, the state is at %d", got, state)
		}
	})
}

func TestAbandonedProposalLeavesNothingBehind(t *testing.T) {
	withProposer(t, ProposerLimits{}, func(t *testing.T, p *proposer, l *fakeLog) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, _, err := p.proposeOne(ctx, []byte("x"))
			done <- err
		}()
		e := <-l.entries
		cancel()
		if err := <-done; !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		e.commit() // must not block the proposer
		answers := make(chan got, 1)
		p.propose(0, [][]byte{[]byte("y")}, collect(answers))
		(<-l.entries).commit()
		if a := <-answers; a.err != nil {
			t.Fatal(a.err)
		}
	})
}
