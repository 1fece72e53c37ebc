package fsm

// Filter selects tasks. Zero fields select all.
type Filter struct {
	States []TaskState // any of them
	Labels []Label     // all of them
	Owner  string
	Name   string // Spec.Name
	After  TaskID // only tasks beyond this one, in the order of listing
	Limit  int    // at most so many; 0 or more than MaxListLimit = MaxListLimit
	Newest bool   // newest first, else oldest first
}

// MaxListLimit bounds one List.
const MaxListLimit = 10_000

// listChunk is how many pages of the task table are searched under one hold
// of the lock: 16,384 tasks are about half a millisecond.
const listChunk = 16

// List returns the tasks that the filter selects, by ID. Each task is as it
// was at one moment during the call; a list that searches many tasks lets
// batches be applied in between.
func (s *State) List(f Filter) []*TaskView {
	if f.Limit <= 0 || f.Limit > MaxListLimit {
		f.Limit = MaxListLimit
	}
	var views []*TaskView
	for more := true; more && len(views) < f.Limit; {
		views, more = s.listChunk(&f, views)
	}
	return views
}

// listChunk searches some pages on from f.After, and moves it.
func (s *State) listChunk(f *Filter, views []*TaskView) (_ []*TaskView, more bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.m
	if m.tasks.n == 0 {
		return views, false
	}
	low, high := TaskID(m.tasks.first<<pageBits), m.lastTask
	if f.Newest {
		id := high
		if f.After != 0 {
			id = min(high, f.After-1)
		}
		stop := max(low, id-min(id, listChunk*pageSize))
		for ; id >= max(stop, 1); id-- {
			if t := m.tasks.get(id); t != nil && f.matches(t) {
				if views = append(views, t.view()); len(views) == f.Limit {
					return views, false
				}
			}
		}
		f.After = id + 1
		return views, id >= max(low, 1)
	}
	id := max(low, f.After+1)
	stop := min(high, id+listChunk*pageSize)
	for ; id <= stop; id++ {
		if t := m.tasks.get(id); t != nil && f.matches(t) {
			if views = append(views, t.view()); len(views) == f.Limit {
				return views, false
			}
		}
	}
	f.After = id - 1
	return views, id <= high
}

func (f *Filter) matches(t *task) bool {
	if f.Owner != "" && t.owner.name != f.Owner {
		return false
	}
	if len(f.States) > 0 {
		found := false
		for _, s := range f.States {
			found = found || s == t.state
		}
		if !found {
			return false
		}
	}
	for _, want := range f.Labels {
		found := false
		for _, l := range t.shape.Labels {
			found = found || l == want
		}
		if !found {
			return false
		}
	}
	return f.Name == "" || specName(t.spec) == f.Name
}

// specName reads Spec.Name, the first field of a canonical encoding, without
// decoding the rest.
func specName(spec []byte) string {
	w := wire{b: spec}
	f := w.fields()
	if !f.next(&w) || f.key != 1 {
		return ""
	}
	return string(w.text(len(spec)))
}
