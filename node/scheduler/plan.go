package scheduler

import (
	"cmp"
	"container/heap"
	"slices"

	"holdfast/fsm"
)

// Bounds are the two limits that a view was taken with: tasks per class and
// classes. A plan holds at most Tasks assignments.
type Bounds struct{ Tasks, Classes int }

// Plan picks workers for tasks of the view, in the order in which they should
// start. It reads nothing but the view and changes nothing of it.
//
// A view may have been cut short. Within a class that cannot matter, because
// the plan is full before such a class runs out. Classes that were left out
// begin after the last one listed, so a plan does not go beyond that point: it
// would overtake them.
func Plan(view fsm.PlanView, bounds Bounds) []fsm.Assignment {
	workers := make([]worker, len(view.Workers))
	for i := range view.Workers {
		workers[i] = worker{view.Workers[i]}
	}
	// The tie-break between equal workers is their ID, whatever the view's order.
	slices.SortFunc(workers, func(a, b worker) int { return cmp.Compare(a.ID, b.ID) })

	queue := make(classHeap, 0, len(view.Classes))
	for i := range view.Classes {
		if class := &view.Classes[i]; len(class.Tasks) > 0 && class.Shape != nil {
			queue = append(queue, &pending{shape: class.Shape, tasks: class.Tasks})
		}
	}
	heap.Init(&queue)
	last := horizon(view, bounds)

	var plan []fsm.Assignment
	for len(queue) > 0 && len(plan) < bounds.Tasks {
		class := queue[0]
		if last.before(class) {
			break
		}
		at := class.pick(workers)
		if at < 0 {
			// Capacity only shrinks while a plan grows: the rest of the class
			// cannot fit either.
			heap.Pop(&queue)
			continue
		}
		w := &workers[at]
		w.FreeCPUMillis -= int64(class.shape.CPUMillis)
		w.FreeMemoryBytes -= int64(class.shape.MemoryBytes)
		w.FreeSlots--
		w.Running++
		task := class.tasks[0]
		plan = append(plan, fsm.Assignment{Task: task.ID, Attempt: task.NextAttempt, Node: w.ID})
		if class.tasks = class.tasks[1:]; len(class.tasks) == 0 {
			heap.Pop(&queue)
		} else {
			heap.Fix(&queue, 0)
		}
	}
	return plan
}

// position is a place in the order of all queued tasks.
type position struct {
	bounded  bool
	priority uint8
	task     fsm.TaskID
}

// horizon is the last place of which a view tells the truth.
func horizon(view fsm.PlanView, bounds Bounds) position {
	if len(view.Classes) < bounds.Classes {
		return position{}
	}
	last := position{bounded: true, priority: ^uint8(0)}
	for i := range view.Classes {
		class := &view.Classes[i]
		if class.Shape == nil || len(class.Tasks) == 0 {
			continue
		}
		head := class.Tasks[0].ID
		if class.Shape.Priority < last.priority {
			last.priority, last.task = class.Shape.Priority, head
		} else if class.Shape.Priority == last.priority {
			last.task = max(last.task, head)
		}
	}
	return last
}

// before reports whether the position lies before the class's next task.
func (p position) before(class *pending) bool {
	if !p.bounded {
		return false
	}
	if class.shape.Priority != p.priority {
		return class.shape.Priority < p.priority
	}
	return class.tasks[0].ID > p.task
}

// worker is a WorkerView whose free capacity the plan counts down.
type worker struct{ fsm.WorkerView }

// misfit says why a task may not run on a worker, whatever its load; "" if it may.
func (w *worker) misfit(shape *fsm.Shape) string {
	for i := range shape.Constraints {
		if c := &shape.Constraints[i]; !c.Matches(w.Labels) {
			return "lack label " + describe(c)
		}
	}
	for _, ability := range shape.Abilities {
		if !slices.Contains(w.Abilities, ability) {
			return "lack ability " + ability
		}
	}
	return ""
}

// fits reports whether the free capacity suffices now.
func (w *worker) fits(shape *fsm.Shape) bool {
	return w.FreeCPUMillis >= int64(shape.CPUMillis) &&
		w.FreeMemoryBytes >= 0 && uint64(w.FreeMemoryBytes) >= shape.MemoryBytes &&
		w.FreeSlots > 0
}

// freeShare is the smaller of the two free fractions of the worker, 0 to 1.
func (w *worker) freeShare() float64 {
	return min(fraction(w.FreeCPUMillis, w.TotalCPUMillis), fraction(w.FreeMemoryBytes, w.TotalMemoryBytes))
}

func fraction(free, total int64) float64 {
	if total <= 0 {
		return 0
	}
	return float64(free) / float64(total)
}

// pending is a class with its tasks that are not planned yet.
type pending struct {
	shape    *fsm.Shape
	tasks    []fsm.QueuedTask
	eligible []int // workers that may run it whatever their load; nil = not yet computed
}

// pick returns the index of the worker for the next task, or -1.
func (p *pending) pick(workers []worker) int {
	if p.eligible == nil {
		p.eligible = make([]int, 0, len(workers))
		for i := range workers {
			if workers[i].misfit(p.shape) == "" {
				p.eligible = append(p.eligible, i)
			}
		}
	}
	best, bestShare := -1, 0.0
	for _, i := range p.eligible {
		w := &workers[i]
		if !w.fits(p.shape) {
			continue
		}
		share := w.freeShare()
		if best < 0 || better(p.shape.Placement, share, bestShare, w.Running, workers[best].Running) {
			best, bestShare = i, share
		}
	}
	return best
}

// better compares a candidate with the best so far; on a full tie the earlier
// one, with the lower ID, stays.
func better(placement fsm.Placement, share, best float64, running, bestRunning int) bool {
	if placement == fsm.Pack {
		return share < best || share == best && running > bestRunning
	}
	return share > best || share == best && running < bestRunning
}

// classHeap orders classes by priority, then by the ID of their first task.
type classHeap []*pending

func (h classHeap) Len() int      { return len(h) }
func (h classHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h classHeap) Less(i, j int) bool {
	if a, b := h[i].shape.Priority, h[j].shape.Priority; a != b {
		return a > b
	}
	return h[i].tasks[0].ID < h[j].tasks[0].ID
}
func (h *classHeap) Push(x any) { *h = append(*h, x.(*pending)) }
func (h *classHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
