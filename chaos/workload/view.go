package workload

import (
	"strconv"
	"strings"
	"time"

	"holdfast/chaos/history"
	"holdfast/client"
)

// view is a task as an answer showed it.
func (l *Load) view(t *client.Task) history.View {
	v := history.View{
		Task: t.ID, Key: t.Name, State: t.State, Attempt: t.Attempt, Node: l.names[t.Node], Index: t.Index,
		Submitted: t.SubmittedAt.UnixNano(), Started: nanos(t.StartedAt), Finished: nanos(t.FinishedAt), RetryAt: nanos(t.RetryAt),
	}
	if v.Node == "" && t.Node != "" {
		v.Node = t.Node
	}
	if r := t.Result; r != nil {
		v.Reason, v.Token = r.Reason, token(r.Tail)
	}
	return v
}

// token is what an attempt calls itself at the end of its output.
func token(tail string) string {
	_, t, ok := strings.Cut(tail, "token=")
	if !ok {
		return ""
	}
	t, _, _ = strings.Cut(t, "\n")
	return t
}

func nanos(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixNano()
}

// number is that of a task's ID, as in t7.
func number(id string) uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(id, "t"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (l *Load) nameOf(addr string) string { return l.byAddr[addr] }
