package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

const (
	// helloTimeout bounds how long a stream may say nothing.
	helloTimeout = 5 * time.Second
	// endTimeout bounds how long a session that is over may hang on a worker
	// that reads nothing.
	endTimeout = time.Second
	// maxPending bounds the changes that wait for one session's writer. A
	// session that falls behind further starts anew, from the state.
	maxPending = 2 * protocol.MaxAttempts
)

// ErrProtocol is wrapped by errors about a worker that breaks the protocol.
var ErrProtocol = errors.New("the worker broke the protocol")

// session is one worker's stream.
type session struct {
	hub         *Hub
	peer        fsm.NodeID
	incarnation uint64
	stream      io.ReadWriteCloser
	work        chan struct{}         // capacity 1: something to write
	reports     chan *protocol.Report // capacity 1: the worker has one unanswered

	mu      sync.Mutex
	changes []fsm.Change
	answers []any            // Renewed and Reported
	refuse  *protocol.Refuse // the last message; set once
	closing *time.Timer      // closes the stream after refuse, whether it went out or not
}

func newSession(h *Hub, peer fsm.NodeID, stream io.ReadWriteCloser) *session {
	return &session{hub: h, peer: peer, stream: stream,
		work: make(chan struct{}, 1), reports: make(chan *protocol.Report, 1)}
}

// notify queues changes for the writer.
func (s *session) notify(changes []fsm.Change) {
	s.mu.Lock()
	s.changes = append(s.changes, changes...)
	over := len(s.changes) > maxPending
	s.mu.Unlock()
	if over {
		s.end(&protocol.Refuse{Code: protocol.RefuseBusy, Detail: "the session fell behind"})
		return
	}
	s.poke()
}

func (s *session) answer(message any) {
	s.mu.Lock()
	s.answers = append(s.answers, message)
	s.mu.Unlock()
	s.poke()
}

// end makes refuse the session's last message.
func (s *session) end(refuse *protocol.Refuse) {
	s.mu.Lock()
	if s.refuse == nil {
		s.refuse = refuse
		s.closing = time.AfterFunc(endTimeout, func() { _ = s.stream.Close() })
	}
	s.mu.Unlock()
	s.poke()
}

func (s *session) poke() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

func (s *session) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.stream.Close() })
	defer func() {
		if stop() {
			_ = s.stream.Close() // the worker sees the end; there is nobody to tell of an error
		}
	}()
	patience := time.AfterFunc(helloTimeout, cancel)
	defer patience.Stop()

	reader := protocol.NewReader(s.stream)
	message, err := reader.Next()
	if err != nil {
		return fmt.Errorf("wait for Hello of node %s: %w", s.peer, err)
	}
	hello, ok := message.(*protocol.Hello)
	if !ok {
		return s.refuseNow(&protocol.Refuse{Code: protocol.RefuseProtocol, Detail: "a session begins with Hello"})
	}
	office, term := s.hub.leading()
	if refuse := s.judge(hello, office); refuse != nil {
		return s.refuseNow(refuse)
	}
	if err := s.hub.verifier.after(ctx, office); err != nil {
		s.hub.metrics.denied.Inc()
		return s.refuseNow(&protocol.Refuse{Code: protocol.RefuseNotLeader, Detail: "this node could not verify that it leads"})
	}
	// The session enters before the state is read: what changes from here on
	// is told twice rather than never.
	if !s.hub.enter(s, office) {
		return s.refuseNow(&protocol.Refuse{Code: protocol.RefuseNotLeader, Detail: "this node no longer leads"})
	}
	defer s.hub.leave(s)
	if err := s.welcome(hello, term); err != nil {
		return err
	}
	patience.Stop()
	stopOffice := context.AfterFunc(office, func() {
		s.end(&protocol.Refuse{Code: protocol.RefuseNotLeader, Detail: "this node no longer leads"})
	})
	defer stopOffice()

	var group sync.WaitGroup
	group.Go(func() { defer cancel(); s.write(ctx) })
	group.Go(func() { s.report(ctx) })
	err = s.read(ctx, office, reader)
	cancel()
	group.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing != nil {
		s.closing.Stop()
	}
	return err
}

// judge says why a Hello cannot begin a session, nil if it can; it records the
// Hello as a renewal, to be acknowledged after a verification.
func (s *session) judge(hello *protocol.Hello, office context.Context) *protocol.Refuse {
	switch {
	case hello.Version != protocol.Version:
		return &protocol.Refuse{Code: protocol.RefuseVersion,
			Detail: fmt.Sprintf("this node speaks version %d, not %d", protocol.Version, hello.Version)}
	case hello.Node != s.peer:
		return &protocol.Refuse{Code: protocol.RefuseProtocol, Detail: "the certificate names another node"}
	case office == nil:
		return &protocol.Refuse{Code: protocol.RefuseNotLeader, Detail: "this node does not lead"}
	}
	s.incarnation = hello.Incarnation
	if refuse := s.standing(); refuse != nil {
		return refuse
	}
	if !s.hub.cfg.Leases.Heard(s.peer, s.incarnation) {
		return &protocol.Refuse{Code: protocol.RefuseRegister, Detail: "the worker's loss is decided"}
	}
	return nil
}

// standing says why the state does not hold the worker as alive, nil if it does.
func (s *session) standing() *protocol.Refuse {
	view, ok := s.hub.cfg.State.Node(s.peer)
	switch {
	case ok && view.Removed:
		return &protocol.Refuse{Code: protocol.RefuseRemoved, Detail: "the node was removed from the cluster"}
	case !ok || !view.Registered || view.Lost || view.Incarnation != s.incarnation:
		return &protocol.Refuse{Code: protocol.RefuseRegister, Detail: "the cluster does not know this start of the node as alive"}
	}
	return nil
}

// superseder is a state that lists the superseded attempts of a node whose
// ends it waits for. One that was superseded before it ever reached the worker
// would otherwise hold its capacity until the worker restarts.
type superseder interface {
	Superseded(fsm.NodeID) []fsm.Assignment
}

// welcome answers a Hello, and queues what the state holds for the worker.
func (s *session) welcome(hello *protocol.Hello, term uint64) error {
	running := s.hub.cfg.State.Running(s.peer)
	current := make(map[protocol.Key]bool, len(running))
	changes := make([]fsm.Change, 0, len(running))
	for _, a := range running {
		current[protocol.Key{Task: a.Task, Attempt: a.Attempt}] = true
		changes = append(changes, fsm.Change{Kind: fsm.ChangeAssigned, Task: a.Task, Attempt: a.Attempt, Node: a.Node})
	}
	welcome := &protocol.Welcome{Version: protocol.Version, Term: term, Lease: s.hub.cfg.Leases.Duration()}
	for _, key := range hello.Attempts {
		if !current[key] {
			welcome.Superseded = append(welcome.Superseded, s.revocation(key))
		}
	}
	if err := s.send(welcome); err != nil {
		return err
	}
	s.hub.metrics.renewals.Inc()
	has := make(map[protocol.Key]bool, len(hello.Attempts))
	for _, key := range hello.Attempts {
		has[key] = true
	}
	if state, ok := s.hub.cfg.State.(superseder); ok {
		for _, a := range state.Superseded(s.peer) {
			changes = append(changes, fsm.Change{Kind: fsm.ChangeRevoked, Task: a.Task, Attempt: a.Attempt, Node: a.Node})
		}
	}
	changes = slices.DeleteFunc(changes, func(c fsm.Change) bool {
		return has[protocol.Key{Task: c.Task, Attempt: c.Attempt}]
	})
	s.notify(changes)
	return nil
}

// read takes the worker's messages until the stream ends.
func (s *session) read(ctx, office context.Context, reader *protocol.Reader) error {
	for {
		message, err := reader.Next()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read from worker %s: %w", s.peer, err)
		}
		switch m := message.(type) {
		case *protocol.Renew:
			s.renew(ctx, office, m)
		case *protocol.Report:
			select {
			case s.reports <- m:
			default:
				s.end(&protocol.Refuse{Code: protocol.RefuseProtocol, Detail: "more than one unanswered Report"})
			}
		default:
			s.end(&protocol.Refuse{Code: protocol.RefuseProtocol, Detail: fmt.Sprintf("a worker does not send %T here", message)})
		}
	}
}

// renew acknowledges a renewal if that is safe, and ends the session if not.
// Reading waits meanwhile, which only makes later renewals look later, on the
// safe side; and while leadership cannot be verified no report could commit.
func (s *session) renew(ctx, office context.Context, m *protocol.Renew) {
	if !s.hub.cfg.Leases.Heard(s.peer, s.incarnation) {
		s.hub.metrics.denied.Inc()
		refuse := s.standing()
		if refuse == nil {
			refuse = &protocol.Refuse{Code: protocol.RefuseRegister, Detail: "the worker's loss is decided"}
		}
		if office.Err() != nil {
			refuse = &protocol.Refuse{Code: protocol.RefuseNotLeader, Detail: "this node no longer leads"}
		}
		s.end(refuse)
		return
	}
	if err := s.hub.verifier.after(ctx, office); err != nil {
		s.hub.metrics.denied.Inc()
		s.end(&protocol.Refuse{Code: protocol.RefuseNotLeader, Detail: "this node could not verify that it leads"})
		return
	}
	s.hub.metrics.renewals.Inc()
	s.answer(&protocol.Renewed{Seq: m.Seq})
}

// report commits the worker's reports, one after the other.
func (s *session) report(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.reports:
			body := fsm.Report{Node: s.peer, Incarnation: s.incarnation, Reports: m.Reports}
			if err := s.commit(ctx, body); err != nil {
				s.hub.cfg.Logger.Debug("a report was not committed, the worker will repeat it", "node", s.peer, "error", err)
				s.answer(&protocol.Reported{Seq: m.Seq, Retry: true})
				continue
			}
			s.hub.cfg.Reported()
			s.hub.metrics.reports.Add(float64(len(m.Reports)))
			s.answer(&protocol.Reported{Seq: m.Seq})
		}
	}
}

// commit returns nil when the reports took effect or never can. Applying one
// twice is harmless, because only the current attempt of a task counts.
func (s *session) commit(ctx context.Context, body fsm.Report) error {
	command, err := fsm.NewCommand(fsm.CmdReport, fsm.RequestID{}, "", body)
	if err != nil {
		return fmt.Errorf("encode a report of node %s: %w", s.peer, err)
	}
	results, err := s.hub.cfg.Propose(ctx, [][]byte{command})
	if err != nil {
		return fmt.Errorf("propose a report of node %s: %w", s.peer, err)
	}
	if len(results) == 1 && results[0].Code != fsm.OK {
		// Refused as a whole: the state holds another incarnation, or none. The
		// change of the node that made it so ends the session.
		s.hub.cfg.Logger.Warn("the state refused a report", "node", s.peer, "code", results[0].Code, "detail", results[0].Detail)
	}
	return nil
}
