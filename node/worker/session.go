package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

// refusedError is a Refuse of the leader.
type refusedError struct{ protocol.Refuse }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the leader refused the session (code %d): %s", e.Code, e.Detail)
}

var errStaleLeader = errors.New("the session is with a leader of an earlier term")

// session is one stream to one leader. The reader's goroutine is Worker.serve,
// the writer's is Worker.write.
type session struct {
	stream io.ReadWriteCloser
	once   sync.Once
	ended  chan struct{}

	mu      sync.Mutex
	sent    map[uint64]time.Time // renewals without an answer
	report  []*attempt           // the unanswered Report
	seq     uint64               // of that Report
	retryAt time.Time            // not before; zero = at once

	answered chan struct{} // capacity 1: a Report was answered
}

func (s *session) close() {
	s.once.Do(func() {
		close(s.ended)
		_ = s.stream.Close() // ends reads and writes; nothing to do about its error
	})
}

// serve holds one session from dialling to its end.
func (w *Worker) serve(ctx context.Context) (welcomed bool, err error) {
	dial, cancel := context.WithTimeout(ctx, connectTimeout)
	stream, err := w.cfg.Connect(dial)
	cancel()
	if err != nil {
		return false, fmt.Errorf("connect to the leader: %w", err)
	}
	s := &session{stream: stream, ended: make(chan struct{}), answered: make(chan struct{}, 1), sent: map[uint64]time.Time{}}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	// Until the Welcome, and then whenever a renewal stays unanswered, the
	// session is given up: a stream alone would wait for ever.
	patience := time.AfterFunc(helloTimeout, s.close)
	defer patience.Stop()

	reader, lease, err := w.open(s)
	if err != nil {
		return false, err
	}
	pause := lease/renewParts + lease/sessionParts
	patience.Reset(pause)

	var writer sync.WaitGroup
	writer.Go(func() {
		defer s.close()
		w.write(s, lease)
	})
	defer writer.Wait()
	defer w.leave(s)
	defer s.close()
	for {
		message, err := reader.Next()
		if err != nil {
			return true, fmt.Errorf("read from the leader: %w", err)
		}
		switch m := message.(type) {
		case *protocol.Renewed:
			w.renewed(s, m.Seq)
			patience.Reset(pause)
		case *protocol.Assign:
			for i := range m.Items {
				w.assign(s, &m.Items[i])
			}
		case *protocol.Revoke:
			for _, item := range m.Items {
				w.revoke(s, item)
			}
		case *protocol.Reported:
			w.reported(s, m)
		case *protocol.Refuse:
			return true, &refusedError{*m}
		default:
			return true, fmt.Errorf("the leader sent a %T in a session", message)
		}
	}
}

// open sends Hello and takes the Welcome, which is the first renewal.
func (w *Worker) open(s *session) (*protocol.Reader, time.Duration, error) {
	hello := &protocol.Hello{Version: protocol.Version, Node: w.cfg.Node, Incarnation: w.cfg.Incarnation}
	w.mu.Lock()
	for key := range w.attempts {
		hello.Attempts = append(hello.Attempts, key)
	}
	w.mu.Unlock()
	frame, err := protocol.Append(nil, hello)
	if err != nil {
		return nil, 0, err
	}
	sent := w.cfg.Now()
	if _, err := s.stream.Write(frame); err != nil {
		return nil, 0, fmt.Errorf("send Hello: %w", err)
	}
	reader := protocol.NewReader(s.stream)
	message, err := reader.Next()
	if err != nil {
		return nil, 0, fmt.Errorf("wait for Welcome: %w", err)
	}
	if refuse, ok := message.(*protocol.Refuse); ok {
		return nil, 0, &refusedError{*refuse}
	}
	welcome, ok := message.(*protocol.Welcome)
	if !ok {
		return nil, 0, fmt.Errorf("the leader answered Hello with %T, want Welcome", message)
	}
	// A removed node's tasks wait for RemoveGrace: a longer lease would let
	// them run here beside their next attempts.
	if welcome.Lease <= 0 || welcome.Lease >= fsm.RemoveGrace {
		return nil, 0, fmt.Errorf("the leader offers a lease of %v, want one below %v", welcome.Lease, fsm.RemoveGrace)
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if welcome.Term < w.term {
		return nil, 0, fmt.Errorf("%w: term %d after %d", errStaleLeader, welcome.Term, w.term)
	}
	w.term, w.lease = welcome.Term, welcome.Lease
	// Before the lease is good again nothing can start, so that what the
	// state has given away meanwhile goes first.
	for _, r := range welcome.Superseded {
		if a := w.attempts[r.Key]; a != nil {
			w.supersede(a, r.Grace)
		}
	}
	w.session = s
	w.extend(sent)
	w.startWaiting()
	return reader, welcome.Lease, nil
}

// leave ends the worker's part of a session; what was not answered is sent
// again in the next one.
func (w *Worker) leave(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == s {
		w.session = nil
	}
	poke(w.reportReady)
}

func (w *Worker) renewed(s *session, seq uint64) {
	s.mu.Lock()
	sent, ok := s.sent[seq]
	for other := range s.sent {
		if other <= seq {
			delete(s.sent, other)
		}
	}
	s.mu.Unlock()
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == s {
		w.extend(sent)
		w.startWaiting()
	}
}

// write sends renewals and reports until the session ends.
func (w *Worker) write(s *session, lease time.Duration) {
	renew := time.NewTimer(w.renewPause(lease))
	defer renew.Stop()
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	var frame []byte
	var seq uint64
	for {
		var message any
		if report := w.nextReport(s); report != nil {
			message = report
		} else {
			select {
			case <-s.ended:
				return
			case <-renew.C:
				seq++
				s.mu.Lock()
				s.sent[seq] = w.cfg.Now()
				s.mu.Unlock()
				renew.Reset(w.renewPause(lease))
				message = &protocol.Renew{Seq: seq}
			case <-w.reportReady:
			case <-s.answered:
				retry.Reset(reportRetry) // looks again at what had to wait
			case <-retry.C:
			}
		}
		if message == nil {
			continue
		}
		var err error
		if frame, err = protocol.Append(frame[:0], message); err == nil {
			_, err = s.stream.Write(frame)
		}
		if err != nil {
			w.cfg.Logger.Debug("the session with the leader broke", "error", err)
			return
		}
	}
}

// renewPause is a little less than its part of the lease, by chance, so that a
// thousand workers do not renew in step.
func (w *Worker) renewPause(lease time.Duration) time.Duration {
	part := float64(lease / renewParts)
	return time.Duration(part * (0.8 + 0.2*w.cfg.Jitter()))
}

// nextReport takes the oldest ends as one Report, unless one is unanswered.
func (w *Worker) nextReport(s *session) *protocol.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.report != nil || w.cfg.Now().Before(s.retryAt) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.unreported), protocol.MaxReports)
	if n == 0 || w.session != s {
		return nil
	}
	s.seq++
	s.report = append([]*attempt(nil), w.unreported[:n]...)
	report := &protocol.Report{Seq: s.seq, Reports: make([]fsm.AttemptReport, n)}
	for i, a := range s.report {
		report.Reports[i] = fsm.AttemptReport{Task: a.key.Task, Attempt: a.key.Attempt, Result: a.result}
	}
	return report
}

// reported takes the answer to the unanswered Report.
func (w *Worker) reported(s *session, answer *protocol.Reported) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.report == nil || answer.Seq != s.seq {
		return
	}
	if answer.Retry {
		s.retryAt = w.cfg.Now().Add(reportRetry / 2)
	} else {
		w.mu.Lock()
		for _, a := range s.report {
			w.forget(a)
		}
		w.changed()
		w.mu.Unlock()
	}
	s.report = nil
	poke(s.answered)
}

// forget drops an ended attempt. The caller holds mu.
func (w *Worker) forget(a *attempt) {
	delete(w.attempts, a.key)
	for i, other := range w.unreported {
		if other == a {
			w.unreported = append(w.unreported[:i], w.unreported[i+1:]...)
			return
		}
	}
}
