package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/fsm"
)

// maxReasons bounds the answer of Explain: the most frequent reasons say enough.
const maxReasons = 5

// Explain says for people why a task of this shape waits, as in "0 of 3 nodes
// fit: 2 lack label zone in (a), 1 has 200 of 500 CPU millis free".
func Explain(view fsm.PlanView, shape *fsm.Shape) string {
	if len(view.Workers) == 0 {
		return "no node takes tasks: none is registered, or all are draining or lost"
	}
	counts := map[string]int{}
	var short []string // one reason per node that only lacks free capacity
	fit := 0
	for i := range view.Workers {
		w := worker{view.Workers[i]}
		reason := w.misfit(shape)
		switch {
		case reason != "":
			counts[reason]++
		case w.fits(shape):
			fit++
		default:
			short = append(short, lacking(&w, shape))
		}
	}
	if fit > 0 {
		return fmt.Sprintf("%d of %d nodes fit: it waits for tasks ahead of it", fit, len(view.Workers))
	}
	reasons := make([]string, 0, len(counts)+len(short))
	for reason := range counts {
		reasons = append(reasons, reason)
	}
	slices.SortFunc(reasons, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, reason := range reasons {
		if counts[reason] == 1 {
			reason = strings.Replace(reason, "lack ", "lacks ", 1)
		}
		reasons[i] = fmt.Sprintf("%d %s", counts[reasons[i]], reason)
	}
	slices.Sort(short)
	reasons = append(reasons, short...)
	if more := len(reasons) - maxReasons; more > 0 {
		reasons = append(reasons[:maxReasons], fmt.Sprintf("and %d more reasons", more))
	}
	return fmt.Sprintf("0 of %d nodes fit: %s", len(view.Workers), strings.Join(reasons, ", "))
}

// lacking names the first capacity that does not suffice on one worker.
func lacking(w *worker, shape *fsm.Shape) string {
	cpu, memory := int64(shape.CPUMillis), shape.MemoryBytes
	switch {
	case w.TotalCPUMillis < cpu:
		return fmt.Sprintf("1 has only %d CPU millis, the task wants %d", w.TotalCPUMillis, cpu)
	case uint64(max(w.TotalMemoryBytes, 0)) < memory:
		return fmt.Sprintf("1 has only %d bytes of memory, the task wants %d", w.TotalMemoryBytes, memory)
	case w.FreeCPUMillis < cpu:
		return fmt.Sprintf("1 has %d of %d CPU millis free", max(w.FreeCPUMillis, 0), cpu)
	case uint64(max(w.FreeMemoryBytes, 0)) < memory:
		return fmt.Sprintf("1 has %d of %d bytes of memory free", max(w.FreeMemoryBytes, 0), memory)
	}
	return fmt.Sprintf("1 runs %d attempts, the most that one node may have", w.Running)
}

// describe names a constraint for people.
func describe(c *fsm.Constraint) string {
	switch c.Op {
	case fsm.In:
		if len(c.Values) == 1 {
			return c.Key + "=" + c.Values[0]
		}
		return fmt.Sprintf("%s in (%s)", c.Key, strings.Join(c.Values, ", "))
	case fsm.NotIn:
		return fmt.Sprintf("%s not in (%s)", c.Key, strings.Join(c.Values, ", "))
	case fsm.Exists:
		return c.Key
	case fsm.NotExists:
		return "absence of " + c.Key
	}
	return fmt.Sprintf("%s (operator %d is unknown here)", c.Key, c.Op)
}
