package sandbox

import "fmt"

// takeUser takes a user within the launcher's namespace.
func (r *Runtime) takeUser() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	uid, ok := r.slots.take()
	if !ok {
		return 0, fmt.Errorf("all %d user IDs are in use: wait for a sandbox to end or widen the range", r.uidCount-1)
	}
	return uid, nil
}

func (r *Runtime) giveUser(uid int) {
	if uid == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots.give(uid)
}

// slots hands out users 1 to n-1 in turn, so that one is reused as late as
// possible. User 0 is the launcher.
type slots struct {
	used []bool
	next int
	free int
}

func newSlots(n int) slots { return slots{used: make([]bool, n), next: 1, free: n - 1} }

func (s *slots) take() (int, bool) {
	if s.free == 0 {
		return 0, false
	}
	for s.used[s.next] || s.next == 0 {
		s.next = (s.next + 1) % len(s.used)
	}
	uid := s.next
	s.used[uid] = true
	s.next = (s.next + 1) % len(s.used)
	s.free--
	return uid, true
}

func (s *slots) give(uid int) { s.used[uid] = false; s.free++ }
