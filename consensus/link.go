package consensus

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Cutter may be implemented by the transport: Cut closes every connection of
// the raft class and accepts no new one, so that the peers learn at once that
// this node gives up, instead of by their timers.
type Cutter interface {
	Cut(reason string)
}

// link stands between raft and its transport. It watches what passes (see
// contacts and installs), injects elections, bounds what the library does not
// bound, and can be cut.
type link struct {
	raft.Transport
	preVote  raft.WithPreVote
	id       string
	timing   Timing
	contacts *contacts
	installs *installs
	applied  *appliedIndex
	log      *overlap
	term     func() uint64 // raft's current term
	last     func() uint64 // raft's last index
	ahead    func()        // a candidate has asked for our vote whose log is behind ours

	consumer chan raft.RPC
	stop     chan struct{} // closed by close
	stopOnce sync.Once
	pumped   sync.WaitGroup
	cutOff   atomic.Bool

	// electionCause is why the next election is started here: "" is the timer.
	electionCause atomic.Pointer[string]
}

var errCut = errors.New("consensus: this node has given up its place in the raft group")

func newLink(cfg *Config, c *contacts, in *installs, applied *appliedIndex, log *overlap) *link {
	return &link{
		Transport: cfg.Transport, preVote: cfg.Transport.(raft.WithPreVote), id: cfg.ID, timing: cfg.Timing,
		contacts: c, installs: in, applied: applied, log: log,
		consumer: make(chan raft.RPC), stop: make(chan struct{}),
	}
}

// start begins to hand requests on. Before it, raft must run and term be set.
func (l *link) start() { l.pumped.Go(l.pump) }

// pump hands requests on to raft.
func (l *link) pump() {
	for {
		select {
		case rpc := <-l.Transport.Consumer():
			if err := l.inspect(&rpc); err != nil {
				refuse(rpc, err)
				continue
			}
			behind := l.behind(&rpc)
			select {
			case l.consumer <- rpc:
			case <-l.stop:
				refuse(rpc, errCut)
				return
			}
			if behind { // and raft has taken the request: what comes now comes after it
				l.ahead()
			}
		case <-l.stop:
			return
		}
	}
}

// refuse answers with an error. Transports give a buffered channel; one that
// does not must not stop the pump.
func refuse(rpc raft.RPC, err error) {
	select {
	case rpc.RespChan <- raft.RPCResponse{Error: err}:
	default:
	}
}

func (l *link) inspect(rpc *raft.RPC) error {
	if l.cutOff.Load() {
		return errCut
	}
	switch cmd := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		if cmd.Term < l.term() {
			return nil // raft will refuse it
		}
		if cmd.LeaderCommitIndex > 0 {
			l.contacts.heard(cmd.Term, cmd.LeaderCommitIndex, l.applied.index.Load())
		}
		return l.log.yield(cmd.Term)
	case *raft.InstallSnapshotRequest:
		if err := l.log.yield(cmd.Term); err != nil {
			return err
		}
		return l.installs.arrived(cmd.LastLogIndex, cmd.LastLogTerm)
	case *raft.TimeoutNowRequest:
		l.setCause(causeTransfer)
	}
	return nil
}

// behind says whether a request for a vote, in an election by evidence, will be
// refused because this node's log goes further.
func (l *link) behind(rpc *raft.RPC) bool {
	cmd, ok := rpc.Command.(*raft.RequestVoteRequest)
	if !ok || !cmd.LeadershipTransfer {
		return false
	}
	last := l.last()
	var own raft.Log
	if last == 0 || l.log.GetLog(last, &own) != nil {
		return false
	}
	return own.Term > cmd.LastLogTerm || own.Term == cmd.LastLogTerm && last > cmd.LastLogIndex
}

// The causes of an election, as in the metric.
const (
	causeTimer    = "timer"
	causeEvidence = "evidence"
	causeTransfer = "transfer"
)

func (l *link) setCause(cause string) { l.electionCause.Store(&cause) }

func (l *link) takeCause() string {
	if c := l.electionCause.Swap(nil); c != nil {
		return *c
	}
	return causeTimer
}

// injectElection makes raft a candidate at once, as if the leader had asked it
// to take over: without pre-vote, and the others vote although they still see a
// leader. Always safe in raft; the caller limits its rate.
func (l *link) injectElection() {
	l.setCause(causeEvidence)
	addr := l.Transport.LocalAddr()
	rpc := raft.RPC{
		Command: &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax,
			ID:              []byte(l.id),
			Addr:            l.Transport.EncodePeer(raft.ServerID(l.id), addr),
		}},
		RespChan: make(chan raft.RPCResponse, 1),
	}
	select {
	case l.consumer <- rpc:
	case <-l.stop:
	}
}

// cut makes this node as good as gone for its peers.
func (l *link) cut(reason string) {
	l.cutOff.Store(true)
	if c, ok := l.Transport.(Cutter); ok {
		c.Cut(reason)
	}
}

// close ends the pump. The transport itself belongs to whoever made it.
func (l *link) close() {
	l.stopOnce.Do(func() { close(l.stop) })
	l.pumped.Wait()
}

// Consumer implements raft.Transport.
func (l *link) Consumer() <-chan raft.RPC { return l.consumer }

// SetHeartbeatHandler implements raft.Transport.
func (l *link) SetHeartbeatHandler(cb func(raft.RPC)) {
	if cb == nil {
		l.Transport.SetHeartbeatHandler(nil)
		return
	}
	l.Transport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if l.cutOff.Load() {
			refuse(rpc, errCut)
			return
		}
		cb(rpc)
	})
}

// AppendEntriesPipeline implements raft.Transport by refusing: the library's
// pipeline can park for ever after a follower's rejection, with heartbeats that
// go on and hide it (hashicorp/raft issue 612), and with one entry in flight it
// has nothing to win.
func (l *link) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport. An answer in the request's own term
// means that the peer followed this leader at some time after the mark, also
// when it rejects the entries because its log does not match. The commit index
// that leaves is at most what is durable here, see overlap.
func (l *link) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if l.cutOff.Load() {
		return errCut
	}
	if c := l.log.clamp(args.LeaderCommitIndex); c != args.LeaderCommitIndex {
		own := *args // raft uses its request again
		own.LeaderCommitIndex = c
		args = &own
	}
	seq, at := l.contacts.mark()
	err := l.Transport.AppendEntries(id, target, args, resp)
	if err == nil && resp.Term == args.Term {
		l.contacts.answered(string(id), args.Term, seq, at, resp.LastLog)
	}
	return err
}

// RequestVote implements raft.Transport.
func (l *link) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if l.cutOff.Load() {
		return errCut
	}
	return l.Transport.RequestVote(id, target, args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (l *link) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if l.cutOff.Load() {
		return errCut
	}
	return l.preVote.RequestPreVote(id, target, args, resp)
}

// InstallSnapshot implements raft.Transport.
func (l *link) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if l.cutOff.Load() {
		return errCut
	}
	return l.Transport.InstallSnapshot(id, target, args, resp, data)
}

// TimeoutNow implements raft.Transport with a bound. The library holds "a
// transfer is in progress", and so refuses every entry, until this returns; it
// has no bound of its own (a cause of hashicorp/raft issue 696). Entries are
// refused for no longer than an election takes.
func (l *link) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if l.cutOff.Load() {
		return errCut
	}
	type answer struct {
		resp raft.TimeoutNowResponse
		err  error
	}
	ch := make(chan answer, 1)
	go func() {
		var a answer
		a.err = l.Transport.TimeoutNow(id, target, args, &a.resp)
		ch <- a
	}()
	t := time.NewTimer(l.timing.Election)
	defer t.Stop()
	select {
	case a := <-ch:
		*resp = a.resp
		return a.err
	case <-t.C:
		return fmt.Errorf("consensus: ask %s to take over: no answer in %v", id, l.timing.Election)
	case <-l.stop:
		return errCut
	}
}
