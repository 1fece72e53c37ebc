package report

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"holdfast/chaos/check"
	"holdfast/chaos/history"
)

// mostLives bounds for how many tasks of violations the report tells the life.
const mostLives = 5

// mostLines bounds the life of one task.
const mostLines = 400

// line is one thing that happened to a task, wherever it was written down.
type line struct {
	At      int64  `json:"at"`
	Journal string `json:"journal"` // client, ledger, fault, or a node
	Text    string `json:"text"`
}

// life is what all journals of a run tell of one task.
type life struct {
	Task  string `json:"task,omitempty"`
	Key   string `json:"key,omitempty"`
	Lines []line `json:"lines"`
	More  int    `json:"more,omitempty"` // lines left out
	Check string `json:"check"`
}

// broken are the tasks of the violations, one of each check first.
func broken(j *check.Judgement) []*life {
	var out []*life
	for round := range 20 {
		for _, v := range j.Verdicts {
			if round >= len(v.Violations) || len(out) >= mostLives {
				continue
			}
			x := v.Violations[round]
			if x.Task == "" && x.Key == "" || slices.ContainsFunc(out, func(l *life) bool { return l.Task == x.Task && l.Key == x.Key }) {
				continue
			}
			out = append(out, &life{Task: x.Task, Key: x.Key, Check: v.Check})
		}
	}
	return out
}

// tell gathers the lives from a history, with the faults beside them.
func tell(lives []*life, events iter.Seq2[*history.Event, error]) error {
	var faults []line
	ops := map[int64][]*life{} // that an operation is about
	for e, err := range events {
		if err != nil {
			return err
		}
		switch e.Kind {
		case history.Inject, history.Bit, history.Heal, history.Healed:
			text := string(e.Kind)
			if e.Fault != nil {
				text += " " + faultText(e.Fault)
			}
			if e.Text != "" {
				text += ": " + e.Text
			}
			faults = append(faults, line{e.At, fmt.Sprintf("fault %d", e.ID), text})
			continue
		}
		for _, l := range lives {
			if text := l.about(e, ops); text != "" {
				l.add(line{e.At, journalOf(e), text})
			}
		}
	}
	for _, l := range lives {
		if len(l.Lines) == 0 {
			continue
		}
		slices.SortStableFunc(l.Lines, func(a, b line) int { return int(a.At - b.At) })
		first, last := l.Lines[0].At, l.Lines[len(l.Lines)-1].At
		for _, f := range faults {
			if f.At >= first-int64(5e9) && f.At <= last {
				l.Lines = append(l.Lines, f)
			}
		}
		slices.SortStableFunc(l.Lines, func(a, b line) int {
			switch {
			case a.At < b.At:
				return -1
			case a.At > b.At:
				return 1
			}
			return 0
		})
	}
	return nil
}

func (l *life) add(x line) {
	if len(l.Lines) >= mostLines {
		l.More++
		return
	}
	l.Lines = append(l.Lines, x)
}

func journalOf(e *history.Event) string {
	switch e.Kind {
	case history.Took:
		return "ledger"
	case history.Journal:
		return e.Node
	}
	return fmt.Sprintf("client %d", e.Process)
}

// about says what an event tells of the task, nothing if it does not.
func (l *life) about(e *history.Event, ops map[int64][]*life) string {
	mine := l.Task != "" && e.Task == l.Task || l.Key != "" && e.Key == l.Key
	switch e.Kind {
	case history.Took:
		if mine && e.Effect != nil {
			return fmt.Sprintf("line %d: attempt %s: %s", e.Effect.Seq, e.Effect.Token, e.Effect.Step)
		}
	case history.Journal:
		if mine {
			return fmt.Sprintf("attempt %d: %s", e.Attempt, e.Text)
		}
	case history.Invoke:
		if mine {
			ops[e.ID] = append(ops[e.ID], l)
			return fmt.Sprintf("%d: %s to %s%s", e.ID, e.Op, e.Node, note(" stale", e.Stale))
		}
	case history.OK, history.Refused, history.Unknown:
		var shown []string
		for i := range e.Tasks {
			if v := &e.Tasks[i]; l.Task != "" && v.Task == l.Task || l.Key != "" && v.Key == l.Key {
				shown = append(shown, viewText(v))
			}
		}
		if !mine && len(shown) == 0 && !slices.Contains(ops[e.ID], l) {
			return ""
		}
		text := fmt.Sprintf("%d: %s by %s: %s", e.ID, e.Op, e.Node, e.Kind)
		if e.Index > 0 {
			text += fmt.Sprintf(" at index %d", e.Index)
		}
		if e.Code != "" {
			text += " " + e.Code
		}
		if e.Error != "" {
			text += ": " + e.Error
		}
		if len(shown) > 0 {
			text += ": " + strings.Join(shown, "; ")
		}
		return text
	}
	return ""
}

func note(text string, yes bool) string {
	if yes {
		return text
	}
	return ""
}

func viewText(v *history.View) string {
	s := fmt.Sprintf("%s is %s, attempt %d", v.Task, v.State, v.Attempt)
	if v.Node != "" {
		s += " on " + v.Node
	}
	if v.Reason != "" {
		s += " (" + v.Reason + ")"
	}
	if v.Token != "" {
		s += ", result of " + v.Token
	}
	return fmt.Sprintf("%s, changed at index %d", s, v.Index)
}
