package sandbox

import (
	"testing"

	"pgregory.net/rapid"
)

// No user is given twice, none is the launcher's, and a free one is found.
func TestSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 20).Draw(t, "n")
		s, used := newSlots(n), map[int]bool{}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			if len(used) > 0 && rapid.Bool().Draw(t, "give") {
				uid := rapid.SampledFrom(keys(used, n)).Draw(t, "uid")
				delete(used, uid)
				s.give(uid)
				continue
			}
			uid, ok := s.take()
			if ok != (len(used) < n-1) {
				t.Fatalf("take says %t with %d of %d in use", ok, len(used), n-1)
			}
			if !ok {
				continue
			}
			if uid < 1 || uid >= n || used[uid] {
				t.Fatalf("user %d of %d, in use: %t", uid, n, used[uid])
			}
			used[uid] = true
		}
	})
}

func keys(m map[int]bool, n int) (out []int) {
	for i := range n {
		if m[i] {
			out = append(out, i)
		}
	}
	return out
}

// A freed user waits until all others had their turn.
func TestSlotsAreReusedLate(t *testing.T) {
	s := newSlots(5)
	first, _ := s.take()
	s.give(first)
	for range 3 {
		uid, _ := s.take()
		if uid == first {
			t.Fatal("reused at once")
		}
		s.give(uid)
	}
	if uid, _ := s.take(); uid != first {
		t.Errorf("got %d, want %d again", uid, first)
	}
}
