package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"holdfast/fsm"
	"holdfast/node/api"
	"holdfast/node/rpc"
	"holdfast/node/worker/outputs"
)

type outputRequest struct {
	Task    uint64 `cbor:"1,keyasint"`
	Attempt uint32 `cbor:"2,keyasint"`
	Stderr  bool   `cbor:"3,keyasint,omitempty"`
	Offset  int64  `cbor:"4,keyasint,omitempty"`
	Follow  bool   `cbor:"5,keyasint,omitempty"`
	Index   uint64 `cbor:"6,keyasint,omitempty"` // applied where it is asked for
}

// outputHead goes before the bytes.
type outputHead struct {
	Err       *rpc.Error `cbor:"1,keyasint,omitempty"`
	Total     int64      `cbor:"2,keyasint,omitempty"`
	Ended     bool       `cbor:"3,keyasint,omitempty"`
	Truncated bool       `cbor:"4,keyasint,omitempty"`
}

// Output opens an attempt's output on whichever node ran it.
func (b backend) Output(ctx context.Context, q api.OutputRequest) (io.ReadCloser, api.OutputInfo, error) {
	n := b.n
	view, attempt, err := n.attemptOf(ctx, q)
	if err != nil {
		return nil, api.OutputInfo{}, err
	}
	if attempt == 0 { // ended without one: there is no output
		return io.NopCloser(eof{}), api.OutputInfo{Ended: true}, nil
	}
	q.Attempt = attempt
	node := string(view.Node)
	if attempt != view.Attempt {
		node = "" // the state names the latest attempt's node alone
	}
	if node == n.id {
		return n.localOutput(ctx, q)
	}
	if node != "" {
		return n.remoteOutput(ctx, node, q)
	}
	// An earlier attempt may lie anywhere.
	if r, info, err := n.localOutput(ctx, q); err == nil {
		return r, info, nil
	}
	for _, v := range n.state.Nodes() {
		if string(v.ID) == n.id || v.Removed || v.Lost {
			continue
		}
		if r, info, err := n.remoteOutput(ctx, string(v.ID), q); err == nil {
			return r, info, nil
		}
	}
	return nil, api.OutputInfo{}, fmt.Errorf("%w: no node holds the output of attempt %d of task %s", api.ErrNotFound, attempt, q.Task)
}

// outputWait bounds how long a worker's state may take to catch up.
const outputWait = 5 * time.Second

// outputPoll is how often an attempt that just began is asked for its output.
const outputPoll = 10 * time.Millisecond

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// attemptOf resolves which attempt is meant; to follow a task that waits is to
// wait for its first attempt.
func (n *Node) attemptOf(ctx context.Context, q api.OutputRequest) (*fsm.TaskView, uint32, error) {
	for {
		changed, stop := n.watch.task(q.Task)
		view, ok := n.state.Task(q.Task)
		switch {
		case !ok:
			stop()
			return nil, 0, fmt.Errorf("%w: no task %s", api.ErrNotFound, q.Task)
		case q.Attempt > view.Attempt && view.State.Terminal(), q.Attempt > view.Attempt && !q.Follow:
			stop()
			return nil, 0, fmt.Errorf("%w: task %s has had %d attempts", api.ErrNotFound, q.Task, view.Attempt)
		case q.Attempt != 0 && q.Attempt <= view.Attempt:
			stop()
			return view, q.Attempt, nil
		case q.Attempt == 0 && (view.Attempt > 0 || view.State.Terminal() || !q.Follow):
			stop()
			return view, view.Attempt, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			stop()
			return nil, 0, ctx.Err()
		}
		stop()
	}
}

func (n *Node) localOutput(ctx context.Context, q api.OutputRequest) (io.ReadCloser, api.OutputInfo, error) {
	stream := outputs.Stdout
	if q.Stderr {
		stream = outputs.Stderr
	}
	r, err := n.outputs.Read(ctx, q.Task, q.Attempt, stream, q.Offset, q.Follow)
	// The state knows of an attempt before its worker has made a place for
	// its output.
	for errors.Is(err, outputs.ErrNotFound) && q.Follow && n.runsHere(q) {
		select {
		case <-time.After(outputPoll):
		case <-ctx.Done():
			return nil, api.OutputInfo{}, ctx.Err()
		}
		r, err = n.outputs.Read(ctx, q.Task, q.Attempt, stream, q.Offset, q.Follow)
	}
	info := n.outputInfo(q)
	switch {
	case err == nil:
		return r, info, nil
	case errors.Is(err, outputs.ErrNotFound) && info.Total == 0 && (info.Ended || n.runsHere(q)):
		return io.NopCloser(eof{}), info, nil // it wrote nothing, so that there is no file
	case errors.Is(err, outputs.ErrNotFound):
		err = fmt.Errorf("%w: %w", api.ErrNotFound, err)
	}
	return nil, api.OutputInfo{}, err
}

// outputInfo is what the state knows: the sizes of the latest attempt, once it
// has ended.
func (n *Node) outputInfo(q api.OutputRequest) api.OutputInfo {
	info := api.OutputInfo{Attempt: q.Attempt}
	v, ok := n.state.Task(q.Task)
	if !ok || v.Attempt != q.Attempt || v.State == fsm.Running || v.Result == nil {
		return info
	}
	info.Ended, info.Truncated, info.Total = true, v.Result.Truncated, v.Result.StdoutBytes
	if q.Stderr {
		info.Total = v.Result.StderrBytes
	}
	return info
}

func (n *Node) runsHere(q api.OutputRequest) bool {
	v, ok := n.state.Task(q.Task)
	return ok && v.Attempt == q.Attempt && v.State == fsm.Running && string(v.Node) == n.id
}

func (n *Node) remoteOutput(ctx context.Context, node string, q api.OutputRequest) (io.ReadCloser, api.OutputInfo, error) {
	conn, err := n.bulk.Stream(ctx, node, methodOutput, outputRequest{
		Task: uint64(q.Task), Attempt: q.Attempt, Stderr: q.Stderr, Offset: q.Offset, Follow: q.Follow,
		Index: n.group.AppliedIndex(),
	})
	if err != nil {
		return nil, api.OutputInfo{}, apiError(fmt.Errorf("the output lies on node %s: %w", node, unreachable(err)))
	}
	var head outputHead
	if err := rpc.ReadFrame(conn, &head); err != nil || head.Err != nil {
		_ = conn.Close()
		if err == nil {
			err = head.Err
		}
		return nil, api.OutputInfo{}, apiError(fmt.Errorf("the output lies on node %s: %w", node, err))
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &remoteReader{conn, stop}, api.OutputInfo{Attempt: q.Attempt, Total: head.Total, Ended: head.Ended, Truncated: head.Truncated}, nil
}

// unreachable turns a failed dial into a definite "cannot do it now".
func unreachable(err error) error {
	var remote *rpc.Error
	if errors.As(err, &remote) {
		return err
	}
	return &rpc.Error{Code: rpc.CodeUnavailable, Message: err.Error()}
}

type remoteReader struct {
	net.Conn
	stop func() bool
}

func (r *remoteReader) Close() error { r.stop(); return r.Conn.Close() }

// serveOutput is the worker's end of remoteOutput.
func (n *Node) serveOutput(ctx context.Context, peer string, body []byte, conn net.Conn) {
	var q outputRequest
	head := outputHead{}
	var r io.ReadCloser
	err := rpc.Decode(body, &q)
	if err == nil {
		// The worker hears of its attempts from the leader, perhaps before its
		// own state does: what the asker knows must be known here as well.
		wait, cancel := context.WithTimeout(ctx, outputWait)
		err = n.group.WaitApplied(wait, q.Index)
		cancel()
	}
	if err == nil {
		var info api.OutputInfo
		r, info, err = n.localOutput(ctx, api.OutputRequest{
			Task: fsm.TaskID(q.Task), Attempt: q.Attempt, Stderr: q.Stderr, Offset: q.Offset, Follow: q.Follow,
		})
		head = outputHead{Total: info.Total, Ended: info.Ended, Truncated: info.Truncated}
	}
	if err != nil {
		code := rpc.CodeInternal
		if errors.Is(err, api.ErrNotFound) {
			code = rpc.CodeNotFound
		}
		head.Err = rpc.Errorf(code, "%v", err)
	}
	if err := rpc.WriteFrame(conn, head); err != nil || head.Err != nil {
		return
	}
	defer func() { _ = r.Close() }()
	if _, err := io.Copy(conn, r); err != nil {
		n.log.Debug("output not sent whole", "peer", peer, "task", q.Task, "error", err)
		// A broken reader must not look like the end of the output.
		if a, ok := conn.(interface{ Abort() }); ok {
			a.Abort()
		}
	}
}
