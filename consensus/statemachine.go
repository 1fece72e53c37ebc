package consensus

import (
	"io"

	"holdfast/fsm"
)

// StateMachine is the replicated state as this package uses it. Apply and
// Restore are called from one goroutine, the apply goroutine; Now from any.
type StateMachine interface {
	// Apply applies one entry. An error means that this node must stop: the
	// entry is never skipped. The results are one per command, in order.
	Apply(index uint64, batch []byte) (fsm.Applied, error)
	// Now is the latest time of an applied batch, Unix nanoseconds. It never
	// falls: a new leader's first batch may carry an earlier time than the old
	// leader's last one.
	Now() int64
	// Snapshot freezes the state for writing beside further applies. It must
	// be quick: applies wait for it.
	Snapshot() StateSnapshot
	// Restore replaces the state by what a StateSnapshot wrote.
	Restore(r io.Reader) error
}

// StateSnapshot is a frozen state.
type StateSnapshot interface {
	WriteTo(w io.Writer) (int64, error)
	Release()
}

// State is what fsm.State offers: a StateMachine but for the type of its
// snapshots.
type State[S StateSnapshot] interface {
	Apply(index uint64, batch []byte) (fsm.Applied, error)
	Now() int64
	Snapshot() S
	Restore(r io.Reader) error
}

// Adapt makes a StateMachine of a State.
func Adapt[S StateSnapshot](s State[S]) StateMachine { return adapted[S]{s} }

type adapted[S StateSnapshot] struct{ State[S] }

func (a adapted[S]) Snapshot() StateSnapshot { return a.State.Snapshot() }
