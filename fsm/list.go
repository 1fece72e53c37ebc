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
const listChunk = 16384 / pageSize

// List returns the tasks that the filter selects, by ID. Each task is as it
// was at one moment during the call; a list that searches many tasks lets
// batches be applied in between.
func (s *State) List(f Filter) []*TaskView {
	if f.Limit <= 0 || f.Limit > MaxListLimit {
		f.Limit = MaxListLimit
	}
	from := f.After + 1
	if f.Newest {
		from = f.After - 1
		if f.After == 0 {
			from = maxTaskID
		}
	}
	var views []*TaskView
	for from != 0 && len(views) < f.Limit {
		views, from = s.listChunk(&f, from, views)
	}
	return views
}

// listChunk searches some pages, and returns where to go on, 0 at the end.
func (s *State) listChunk(f *Filter, from TaskID, views []*TaskView) ([]*TaskView, TaskID) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	walk := s.m.tasks.ascend
	if f.Newest {
		walk = s.m.tasks.descend
	}
	from = walk(from, listChunk, func(t *task) bool {
		if f.matches(t) {
			views = append(views, t.view())
		}
		return len(views) < f.Limit
	})
	return views, from
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
