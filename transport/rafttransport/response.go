package rafttransport

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// RemoteError is an answer of the peer's raft that is an error.
type RemoteError struct{ Msg string }

func (e *RemoteError) Error() string { return "raft peer: " + e.Msg }

// Is lets callers compare with raft's own errors, which travel as text.
func (e *RemoteError) Is(target error) bool { return target != nil && target.Error() == e.Msg }

// maxErrorText bounds the text of an error on the wire.
const maxErrorText = 4 << 10

var errNoAnswer = errors.New("raft gave no answer")

// putResponse encodes what raft answered. An answer of an unknown type is
// raft's bug and becomes an error for the peer.
func putResponse(b []byte, r raft.RPCResponse) []byte {
	err := r.Error
	if err == nil && r.Response == nil {
		err = errNoAnswer
	}
	if err == nil {
		at := len(b)
		b = putB(b, nil)
		switch p := r.Response.(type) {
		case *raft.AppendEntriesResponse:
			b = putU(putU(putHeader(b, p.RPCHeader), p.Term), p.LastLog)
			return putBool(putBool(b, p.Success), p.NoRetryBackoff)
		case *raft.RequestVoteResponse:
			return putBool(putB(putU(putHeader(b, p.RPCHeader), p.Term), p.Peers), p.Granted)
		case *raft.RequestPreVoteResponse:
			return putBool(putU(putHeader(b, p.RPCHeader), p.Term), p.Granted)
		case *raft.TimeoutNowResponse:
			return putHeader(b, p.RPCHeader)
		case *raft.InstallSnapshotResponse:
			return putBool(putU(putHeader(b, p.RPCHeader), p.Term), p.Success)
		}
		b, err = b[:at], fmt.Errorf("no encoding for an answer of type %T", r.Response)
	}
	text := err.Error()
	if text == "" {
		text = "error without text" // an empty one would mean success
	}
	return putB(b, []byte(text[:min(len(text), maxErrorText)]))
}

// takeResponse decodes into the response that the caller of raft's transport
// gave, by its type.
func takeResponse(body []byte, into any) error {
	r := &reader{b: body}
	if text := r.bytes(); len(text) > 0 {
		return &RemoteError{Msg: string(text)}
	}
	switch p := into.(type) {
	case *raft.AppendEntriesResponse:
		p.RPCHeader, p.Term, p.LastLog = r.header(), r.u(), r.u()
		p.Success, p.NoRetryBackoff = r.bool(), r.bool()
	case *raft.RequestVoteResponse:
		p.RPCHeader, p.Term, p.Peers, p.Granted = r.header(), r.u(), r.bytes(), r.bool()
	case *raft.RequestPreVoteResponse:
		p.RPCHeader, p.Term, p.Granted = r.header(), r.u(), r.bool()
	case *raft.TimeoutNowResponse:
		p.RPCHeader = r.header()
	case *raft.InstallSnapshotResponse:
		p.RPCHeader, p.Term, p.Success = r.header(), r.u(), r.bool()
	default:
		return fmt.Errorf("%w: no decoding for %T", ErrFrame, into)
	}
	return r.err
}
