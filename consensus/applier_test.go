package consensus

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

func newTestApplier(t *testing.T, s *testState) (*applier, *[]*ApplyError) {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	fatal := &[]*ApplyError{}
	return &applier{
		log: newOverlap(&Config{}, nil, nil), encode: encodeTestBatch,
		sm: Adapt(s), applied: newAppliedIndex(), metrics: m, now: time.Now, snapBytes: 1 << 30,
		snapAsk: make(chan struct{}, 1), onFatal: func(err *ApplyError) { *fatal = append(*fatal, err) },
	}, fatal
}

func command(index uint64, c testCommand) *raft.Log {
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: encodeTestBatch(0, [][]byte{c.encode()})}
}

// guards P9
func TestNothingIsAppliedAfterAFailure(t *testing.T) {
	s := newTestState()
	a, fatal := newTestApplier(t, s)
	out := a.ApplyBatch([]*raft.Log{
		command(3, testCommand{Key: "a", Value: "1"}),
		command(4, testCommand{Poison: true}),
		command(5, testCommand{Key: "a", Value: "2"}),
		{Index: 6, Type: raft.LogConfiguration},
	})
	for i, bad := range []bool{false, true, true, true} {
		if o := out[i].(*outcome); (o.err != nil) != bad { //nolint:forcetypeassert // a test
			t.Errorf("entry %d: %v", i, o.err)
		}
	}
	if s.get("a") != "1" || a.applied.index.Load() != 3 {
		t.Errorf("a = %q, applied %d", s.get("a"), a.applied.index.Load())
	}
	a.Apply(command(7, testCommand{Poison: true}))
	if len(*fatal) != 1 || (*fatal)[0].Index != 4 {
		t.Errorf("fatal: %v", *fatal)
	}
}

// An entry that the library appended after its office had ended takes no
// effect, is counted, and says so.
//
// guards P3, P9
func TestEntryOfAnotherOfficeTakesNoEffect(t *testing.T) {
	s := newTestState()
	a, fatal := newTestApplier(t, s)
	bound := func(index, term uint64, to []byte) *raft.Log {
		l := command(index, testCommand{Key: "a", Value: strconv.FormatUint(index, 10)})
		l.Term, l.Extensions = term, to
		return l
	}
	out := a.ApplyBatch([]*raft.Log{bound(3, 5, bind(5)), bound(4, 7, bind(5)), bound(5, 7, append(bind(7), 0))})
	for i, foreign := range []bool{false, true, true} {
		if o := out[i].(*outcome); errors.Is(o.err, errOtherOffice) != foreign { //nolint:forcetypeassert // a test
			t.Errorf("entry %d: %v", i, o.err)
		}
	}
	if s.get("a") != "3" || a.applied.index.Load() != 5 || len(*fatal) != 0 {
		t.Errorf("a = %q, applied %d, fatal %v", s.get("a"), a.applied.index.Load(), *fatal)
	}
	a.ApplyBatch([]*raft.Log{bound(6, 9, nil)}) // of a release that bound nothing
	if s.get("a") != "6" {
		t.Errorf("an entry that is bound to no office was not applied")
	}
}

func TestConfigurationEntriesMoveTheAppliedIndex(t *testing.T) {
	a, _ := newTestApplier(t, newTestState())
	out := a.ApplyBatch([]*raft.Log{{Index: 9, Type: raft.LogConfiguration}})
	if len(out) != 1 || a.applied.index.Load() != 9 {
		t.Errorf("%d responses, applied %d", len(out), a.applied.index.Load())
	}
}

// Subscribers see every entry in order, after it is applied and before anyone
// who waits for it.
func TestSubscribersRunInOrder(t *testing.T) {
	s := newTestState()
	a, _ := newTestApplier(t, s)
	var seen []uint64
	a.onApplied.add(func(index uint64, changes []fsm.Change) {
		if a.applied.index.Load() >= index || len(changes) != 1 {
			t.Errorf("entry %d: applied %d, %d changes", index, a.applied.index.Load(), len(changes))
		}
		seen = append(seen, index)
	})
	a.onApplied.add(func(index uint64, _ []fsm.Change) { seen = append(seen, index*10) })
	a.ApplyBatch([]*raft.Log{command(1, testCommand{Key: "a"}), command(2, testCommand{Key: "b"})})
	if !slices.Equal(seen, []uint64{1, 10, 2, 20}) {
		t.Errorf("%v", seen)
	}
}
