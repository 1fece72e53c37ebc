package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"holdfast/client"
	"holdfast/fsm"
)

// Keyed is the header of every mutation that may be sent again. It is exported,
// like the other parts that inputs and outputs embed, because huma passes over
// fields of embedded types that are not.
type Keyed struct {
	Key string `header:"Idempotency-Key" maxLength:"128" doc:"Names the request: sent again with the same key by the same principal, it takes effect once"`
}

// requestID names a command for the state. Line tells the commands of one
// stream apart; 0 elsewhere.
func (s *server) requestID(c *call, key string, line uint64) (fsm.RequestID, error) {
	return s.commandID(c.principal, c.op.id, key, line)
}

func (s *server) commandID(principal, operation, key string, line uint64) (fsm.RequestID, error) {
	var id fsm.RequestID
	if key == "" {
		if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
			return id, fmt.Errorf("read randomness for a request ID: %w", err)
		}
		return id, nil
	}
	for i := range len(key) {
		if key[i] < 0x20 || key[i] > 0x7e {
			return id, invalidAt("header.Idempotency-Key", "has a byte that is not printable ASCII")
		}
	}
	// The operation is part of it: a key that was used to submit and is then
	// used to cancel must not be answered with the submission's result.
	var room [192]byte
	b := room[:0]
	for _, part := range [...]string{principal, operation, key} {
		b = append(append(b, part...), 0)
	}
	if line > 0 {
		b = binary.BigEndian.AppendUint64(b, line)
	}
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	return id, nil
}

// propose brings one command to an outcome.
func (s *server) propose(ctx context.Context, c *call, t fsm.CommandType, key string, body any) (fsm.Result, uint64, error) {
	id, err := s.requestID(c, key, 0)
	if err != nil {
		return fsm.Result{}, 0, err
	}
	cmd, err := fsm.NewCommand(t, id, c.principal, body)
	if err != nil {
		return fsm.Result{}, 0, err
	}
	if len(cmd) > fsm.MaxCommandBytes {
		return fsm.Result{}, 0, newProblem(client.CodeTooLarge, "the request takes %d bytes, at most %d fit: split it", len(cmd), fsm.MaxCommandBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.ProposeTimeout)
	defer cancel()
	result, index, err := s.cfg.Backend.Propose(ctx, cmd)
	if err != nil {
		return fsm.Result{}, 0, fmt.Errorf("propose %s: %w", t, err)
	}
	if p := fromResult(result); p != nil {
		return result, index, p
	}
	return result, index, nil
}

// proposeApplied also waits until this node's state has the command. If that
// takes too long, the command has taken effect all the same: ok is false.
func (s *server) proposeApplied(ctx context.Context, c *call, t fsm.CommandType, key string, body any) (index uint64, ok bool, err error) {
	_, index, err = s.propose(ctx, c, t, key, body)
	if err != nil {
		return 0, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.ReadTimeout)
	defer cancel()
	_, err = s.cfg.Backend.ReadBarrier(ctx, ReadOptions{Stale: true, MinIndex: index})
	return index, err == nil, nil
}
