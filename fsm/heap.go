package fsm

// heapItem is what an indexed heap orders. Its order must be total, so that
// what a heap yields does not depend on how it came about.
type heapItem[T any] interface {
	less(T) bool
	setPos(int) // 1-based position in the heap, 0 = not in it
}

// minHeap is a binary min-heap whose items know their position. container/heap
// would do the same through an interface value per call, which allocates for
// the timers' entries.
type minHeap[T heapItem[T]] struct{ items []T }

func (h *minHeap[T]) len() int { return len(h.items) }

func (h *minHeap[T]) push(x T) {
	h.items = append(h.items, x)
	h.up(len(h.items) - 1)
}

// remove takes out the item at a 1-based position.
func (h *minHeap[T]) remove(pos int) {
	i, last := pos-1, len(h.items)-1
	h.items[i].setPos(0)
	var zero T
	moved := h.items[last]
	h.items[last] = zero
	h.items = h.items[:last]
	if i != last {
		h.items[i] = moved
		h.fix(i + 1)
	}
}

// fix restores the order after the item at a 1-based position changed.
func (h *minHeap[T]) fix(pos int) {
	if i := h.up(pos - 1); i == pos-1 {
		h.down(i)
	}
}

func (h *minHeap[T]) up(i int) int {
	x := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !x.less(h.items[parent]) {
			break
		}
		h.items[i] = h.items[parent]
		h.items[i].setPos(i + 1)
		i = parent
	}
	h.items[i] = x
	x.setPos(i + 1)
	return i
}

func (h *minHeap[T]) down(i int) {
	x := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if right := child + 1; right < len(h.items) && h.items[right].less(h.items[child]) {
			child = right
		}
		if !h.items[child].less(x) {
			break
		}
		h.items[i] = h.items[child]
		h.items[i].setPos(i + 1)
		i = child
	}
	h.items[i] = x
	x.setPos(i + 1)
}

// ascend calls f with the least items in order until f returns false, without
// changing the heap: k items cost O(k log k), whatever the heap's size.
func (h *minHeap[T]) ascend(f func(T) bool) {
	if len(h.items) == 0 {
		return
	}
	// open is a small heap of positions whose parents were all yielded.
	open := make([]int, 1, 16)
	less := func(a, b int) bool { return h.items[open[a]].less(h.items[open[b]]) }
	for len(open) > 0 {
		i := open[0]
		if !f(h.items[i]) {
			return
		}
		last := len(open) - 1
		open[0] = open[last]
		open = open[:last]
		for at := 0; ; {
			child := 2*at + 1
			if child >= len(open) {
				break
			}
			if child+1 < len(open) && less(child+1, child) {
				child++
			}
			if !less(child, at) {
				break
			}
			open[at], open[child] = open[child], open[at]
			at = child
		}
		for next := 2*i + 1; next <= 2*i+2 && next < len(h.items); next++ {
			open = append(open, next)
			for at := len(open) - 1; at > 0 && less(at, (at-1)/2); at = (at - 1) / 2 {
				open[at], open[(at-1)/2] = open[(at-1)/2], open[at]
			}
		}
	}
}
