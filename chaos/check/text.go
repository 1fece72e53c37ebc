package check

import (
	"fmt"
	"time"

	"holdfast/chaos/history"
)

// at is a time of the history for people.
func at(ns int64) string { return fmt.Sprintf("%.3f s", float64(ns)/1e9) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

// describe is a task as one answer showed it.
func describe(v *history.View) string {
	s := fmt.Sprintf("%s, attempt %d", v.State, v.Attempt)
	if v.Node != "" {
		s += " on " + v.Node
	}
	if v.Reason != "" {
		s += " (" + v.Reason + ")"
	}
	return fmt.Sprintf("%s, index %d", s, v.Index)
}

var sprint = fmt.Sprintf
