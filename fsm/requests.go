package fsm

// remembered is the result of one command with a request ID. Only commands
// that took effect are remembered, and their results have no more than this.
type remembered struct {
	id    RequestID
	first TaskID
	count uint32
}

// requestTable remembers the newest results. It is a log of pages: a slot is
// written once and never changed, so a snapshot reads the pages without a
// lock after copying the slice of pointers (256 at the default size).
type requestTable struct {
	low   uint64 // sequence numbers of the entries: [low, high)
	high  uint64
	pages []*[pageSize]remembered // pages[0] holds low
	byID  map[RequestID]uint64
}

func (r *requestTable) at(seq uint64) *remembered {
	return &r.pages[seq>>pageBits-r.low>>pageBits][seq%pageSize]
}

func (r *requestTable) get(id RequestID) (Result, bool) {
	seq, ok := r.byID[id]
	if !ok {
		return Result{}, false
	}
	e := r.at(seq)
	return Result{First: e.first, Count: e.count}, true
}

// add remembers a result, and forgets the oldest beyond keep.
func (r *requestTable) add(e remembered, keep uint64) {
	if r.high%pageSize == 0 || len(r.pages) == 0 {
		r.pages = append(r.pages, new([pageSize]remembered))
	}
	r.byID[e.id] = r.high
	r.high++
	*r.at(r.high - 1) = e
	for r.high-r.low > keep {
		delete(r.byID, r.at(r.low).id)
		r.low++
		if r.low%pageSize == 0 {
			// Re-sliced, not shifted: a snapshot may hold the same array.
			r.pages = r.pages[1:]
		}
	}
}
