package fsm

import "fmt"

// priorities is the number of lines: 0 to maxPriority.
const priorities = maxPriority + 1

// machine is the replicated state itself, without locks: State guards it, and
// a restored snapshot replaces it whole, so that snapshots of the old one can
// still be written.
type machine struct {
	limits Limits // in force: Limits, lowered by the settings

	// Recorded.
	index     uint64 // of the last entry
	now       int64  // Unix ns of the last batch; never falls
	lastTask  TaskID // the greatest ID ever given
	accepted  uint64 // tasks ever; below lastTask after a portable restore
	finishSeq uint64
	totals    Totals
	cluster   cluster
	tasks     taskTable
	nodes     map[NodeID]*node
	removed   []removedNode  // append-only: snapshots share the array
	tokens    []*storedToken // sorted by ID; replaced, never changed, as are the tokens
	requests  requestTable

	// Derived from the above.
	shapes    map[string]*shape
	classes   map[string]*class
	owners    map[string]*owner
	nodeOrder []*node // sorted by ID
	removedAt map[NodeID]int
	lines     [priorities]minHeap[*class]
	timers    minHeap[timer]
	finished  taskList // oldest first
	queued    int
	running   int
	ready     int

	// Of snapshots.
	gen          uint32
	snaps        []*Snapshot
	restoredTask TaskID // while one is read: the last task

	// Of the batch at hand; the slices are reused.
	changes []Change
	subs    []submission
	assigns []assignment
	reports []AttemptReport
}

// Totals count tasks over the whole life of the cluster.
type Totals struct {
	Succeeded uint64 `cbor:"1,keyasint,omitempty"`
	Failed    uint64 `cbor:"2,keyasint,omitempty"`
	Cancelled uint64 `cbor:"3,keyasint,omitempty"`
	Expired   uint64 `cbor:"4,keyasint,omitempty"`
}

func newMachine(limits Limits) *machine {
	return &machine{
		limits:    limits,
		nodes:     map[NodeID]*node{},
		removedAt: map[NodeID]int{},
		shapes:    map[string]*shape{},
		classes:   map[string]*class{},
		owners:    map[string]*owner{},
		requests:  requestTable{byID: map[RequestID]uint64{}},
		cluster:   cluster{Level: BaseFeatureLevel},
	}
}

// applyBatch applies the commands in order.
func (m *machine) applyBatch(index uint64, unixNano int64, cmds [][]byte) (Applied, error) {
	m.index = index
	m.now = max(m.now, unixNano)
	m.changes = nil // the caller keeps the last batch's
	results := make([]Result, len(cmds))
	for i, b := range cmds {
		r, err := m.applyCommand(b)
		if err != nil {
			return Applied{}, &StopError{Index: index, Command: i, Err: err}
		}
		results[i] = r
	}
	return Applied{Results: results, Changes: m.changes}, nil
}

// applyCommand applies one command. An error means that this release must not
// go on; whatever is wrong with the command itself is a Result.
func (m *machine) applyCommand(b []byte) (Result, error) {
	e, err := decodeEnvelope(b)
	if err != nil {
		return m.invalid(err)
	}
	info, err := checkVersion(e.kind, e.version)
	if err != nil {
		return Result{}, err
	}
	if m.cluster.Level < info.level {
		return refuse(CodeInvalid, "%s needs feature level %d; the cluster is at %d", e.kind, info.level, m.cluster.Level), nil
	}
	if e.requestID != (RequestID{}) {
		if r, ok := m.requests.get(e.requestID); ok {
			return r, nil
		}
	}
	r, err := info.apply(m, &e)
	if err != nil {
		return m.invalid(err)
	}
	if r.Code == OK && e.requestID != (RequestID{}) {
		m.requests.add(remembered{id: e.requestID, first: r.First, count: r.Count}, m.limits.RequestIDsKept)
	}
	return r, nil
}

// invalid turns a decoder's or validator's error into a refusal, or passes it
// on if it means that the command is from a newer release.
func (m *machine) invalid(err error) (Result, error) {
	if isUnknownField(err) || isNewer(err) {
		return Result{}, err
	}
	return refuse(CodeInvalid, "%v", err), nil
}

func refuse(code Code, format string, args ...any) Result {
	return Result{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func (m *machine) change(kind ChangeKind, t *task, on NodeID) {
	m.changes = append(m.changes, Change{Kind: kind, Task: t.id, Attempt: t.attempt, Node: on})
}

// touch must be called before a recorded field of a task changes, or the task
// is removed: snapshots that have not written it yet keep its old value.
func (m *machine) touch(t *task) {
	for i, kept := 0, (*task)(nil); i < len(m.snaps); i++ {
		if s := m.snaps[i]; t.gen < s.gen && t.id <= s.meta.LastTask && uint64(t.id)>>pageBits >= s.nextPage {
			if kept == nil {
				c := *t
				kept = &c
			}
			s.keep(kept)
		}
	}
	t.gen = m.gen
	t.index = m.index
}
