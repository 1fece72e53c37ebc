package node

import (
	"sync"

	"holdfast/fsm"
)

// watchers wakes those who wait for one task. Its zero value is ready.
type watchers struct {
	mu    sync.Mutex
	tasks map[fsm.TaskID]map[chan struct{}]struct{}
}

// task gives a channel that is closed at the task's next change. stop frees
// it.
func (w *watchers) task(id fsm.TaskID) (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tasks == nil {
		w.tasks = map[fsm.TaskID]map[chan struct{}]struct{}{}
	}
	if w.tasks[id] == nil {
		w.tasks[id] = map[chan struct{}]struct{}{}
	}
	w.tasks[id][ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if set := w.tasks[id]; set != nil {
			delete(set, ch)
			if len(set) == 0 {
				delete(w.tasks, id)
			}
		}
	}
}

// changed wakes the watchers of the tasks that changed. It runs on the apply
// goroutine, so it costs one look while nobody watches.
func (w *watchers) changed(changes []fsm.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.tasks) == 0 {
		return
	}
	for i := range changes {
		if id := changes[i].Task; id != 0 {
			w.wake(id)
		}
	}
}

// all wakes everybody: the state was replaced as a whole.
func (w *watchers) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.tasks {
		w.wake(id)
	}
}

func (w *watchers) wake(id fsm.TaskID) {
	for ch := range w.tasks[id] {
		close(ch)
	}
	delete(w.tasks, id)
}
