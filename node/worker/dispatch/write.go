package dispatch

import (
	"context"
	"fmt"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

// write sends what is queued until the session ends, the last message last.
func (s *session) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.work:
		}
		s.mu.Lock()
		changes, answers, refuse := s.changes, s.answers, s.refuse
		s.changes, s.answers = nil, nil
		s.mu.Unlock()

		for _, message := range answers { // first: a lease may hang on one
			if s.send(message) != nil {
				return
			}
		}
		if refuse == nil {
			refuse = s.sendChanges(changes)
		}
		if refuse != nil {
			_ = s.refuseNow(refuse)
			return
		}
	}
}

// sendChanges turns changes into revocations and assignments. Each assignment
// is looked up in the state now, so that none goes out that the state, as it
// is after every answer sent so far, has superseded.
func (s *session) sendChanges(changes []fsm.Change) *protocol.Refuse {
	revoke := &protocol.Revoke{}
	flushRevoke := func() error {
		if len(revoke.Items) == 0 {
			return nil
		}
		defer func() { revoke.Items = revoke.Items[:0] }()
		return s.send(revoke)
	}
	for _, c := range changes {
		switch c.Kind {
		case fsm.ChangeNode:
			if refuse := s.standing(); refuse != nil {
				return refuse
			}
		case fsm.ChangeRevoked:
			revoke.Items = append(revoke.Items, s.revocation(protocol.Key{Task: c.Task, Attempt: c.Attempt}))
			if len(revoke.Items) == protocol.MaxReports {
				if err := flushRevoke(); err != nil {
					return broken(err)
				}
			}
		}
	}
	if err := flushRevoke(); err != nil {
		return broken(err)
	}

	assign, size := &protocol.Assign{}, 0
	for i, c := range changes {
		if c.Kind == fsm.ChangeAssigned {
			if view, ok := s.hub.cfg.State.Task(c.Task); ok && s.current(view, c) {
				assign.Items = append(assign.Items, protocol.Assignment{
					Key: protocol.Key{Task: c.Task, Attempt: c.Attempt}, Spec: view.SpecBytes,
				})
				size += len(view.SpecBytes)
			}
		}
		full := size >= protocol.AssignBytes || len(assign.Items) == protocol.MaxReports
		if len(assign.Items) > 0 && (full || i == len(changes)-1) {
			if err := s.send(assign); err != nil {
				return broken(err)
			}
			assign.Items, size = assign.Items[:0], 0
		}
	}
	return nil
}

// current reports whether the state still holds the attempt of a change.
func (s *session) current(view *fsm.TaskView, c fsm.Change) bool {
	return view.State == fsm.Running && view.Attempt == c.Attempt && view.Node == s.peer
}

// revocation names a superseded attempt. Only a cancelled task is in no hurry:
// of any other another attempt may follow.
func (s *session) revocation(key protocol.Key) protocol.Revocation {
	view, ok := s.hub.cfg.State.Task(key.Task)
	return protocol.Revocation{Key: key, Grace: ok && view.State == fsm.Cancelled}
}

// broken ends a session whose stream no longer takes anything.
func broken(err error) *protocol.Refuse {
	return &protocol.Refuse{Code: protocol.RefuseBusy, Detail: err.Error()}
}

func (s *session) send(message any) error {
	frame, err := protocol.Append(nil, message)
	if err != nil {
		return err
	}
	if _, err := s.stream.Write(frame); err != nil {
		return fmt.Errorf("write to worker %s: %w", s.peer, err)
	}
	return nil
}

// refuseNow sends the last message; the error says the same to our side.
func (s *session) refuseNow(refuse *protocol.Refuse) error {
	if err := s.send(refuse); err != nil {
		return err
	}
	if refuse.Code == protocol.RefuseProtocol {
		return fmt.Errorf("%w: node %s: %s", ErrProtocol, s.peer, refuse.Detail)
	}
	return nil
}
