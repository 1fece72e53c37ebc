package api

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"

	"holdfast/client"
	"holdfast/fsm"
)

type listInput struct {
	ReadParams
	States []string `query:"state,explode" maxItems:"6" doc:"Only tasks in one of these states"`
	Labels []string `query:"label,explode" maxItems:"16" doc:"Only tasks with all of these labels, as key=value"`
	Owner  string   `query:"owner" maxLength:"256" doc:"Only tasks of this principal"`
	Name   string   `query:"name" maxLength:"128" doc:"Only tasks of this name"`
	Limit  int      `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Tasks per page"`
	Cursor string   `query:"cursor" maxLength:"64" doc:"Of the page before"`
	Order  string   `query:"order" enum:"oldest,newest" default:"oldest" doc:"By time of submission"`
	Spec   bool     `query:"spec" doc:"Include each task's spec"`
}

type listOutput struct {
	Freshness
	Body client.TaskList
}

func (s *server) listTasks(ctx context.Context, _ *call, in *listInput) (*listOutput, error) {
	filter, err := in.filter()
	if err != nil {
		return nil, err
	}
	fresh, err := s.barrier(ctx, in.ReadParams)
	if err != nil {
		return nil, err
	}
	filter.Limit = in.Limit + 1 // one more tells whether there is another page
	views := s.cfg.Backend.State().List(filter)
	out := &listOutput{Freshness: fresh, Body: client.TaskList{Tasks: []client.Task{}, Index: fresh.Index}}
	if len(views) > in.Limit {
		views = views[:in.Limit]
		out.Body.Cursor = encodeCursor(views[in.Limit-1].ID, in.signature())
	}
	for _, v := range views {
		t, err := taskOf(v, in.Spec)
		if err != nil {
			return nil, err
		}
		out.Body.Tasks = append(out.Body.Tasks, *t)
	}
	return out, nil
}

func (in *listInput) filter() (fsm.Filter, error) {
	f := fsm.Filter{Owner: in.Owner, Name: in.Name, Newest: in.Order == "newest"}
	for _, name := range in.States {
		state, ok := numberOf[fsm.TaskState](stateNames, name)
		if !ok {
			return f, invalidAt("query.state", "%.64q is no state: want one of %s", name, strings.Join(stateNames[1:], ", "))
		}
		f.States = append(f.States, state)
	}
	for _, l := range in.Labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return f, invalidAt("query.label", "%.64q is no label: want key=value", l)
		}
		f.Labels = append(f.Labels, fsm.Label{Key: k, Value: v})
	}
	if in.Cursor != "" {
		after, ok := decodeCursor(in.Cursor, in.signature())
		if !ok {
			return f, invalidAt("query.cursor", "is none that this list gave: repeat the filters and the order of the first page, or start again")
		}
		f.After = after
	}
	return f, nil
}

// signature ties a cursor to what was listed. It finds mistakes; a forged
// cursor shows nothing that another would not.
func (in *listInput) signature() uint32 {
	h := fnv.New32a()
	parts := append(slices.Sorted(slices.Values(in.States)), "\x00")
	parts = append(parts, slices.Sorted(slices.Values(in.Labels))...)
	parts = append(parts, "\x00", in.Owner, in.Name, in.Order)
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // a hash never fails
		_, _ = h.Write([]byte{0xff})
	}
	return h.Sum32()
}

// A cursor is a version byte, the last task's ID and the signature, base64url.
const (
	cursorVersion = 1
	cursorLen     = 1 + 8 + 4
)

func encodeCursor(last fsm.TaskID, signature uint32) string {
	b := make([]byte, 0, cursorLen)
	b = append(b, cursorVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(last))
	b = binary.BigEndian.AppendUint32(b, signature)
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeCursor(s string, signature uint32) (fsm.TaskID, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != cursorLen || b[0] != cursorVersion || binary.BigEndian.Uint32(b[9:]) != signature {
		return 0, false
	}
	id := fsm.TaskID(binary.BigEndian.Uint64(b[1:]))
	return id, id != 0
}
