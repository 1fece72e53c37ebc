package fsm

import (
	"errors"
	"fmt"
)

// BaseFeatureLevel is what a new cluster starts with, and FeatureLevel what
// this release knows. A command type, version or field that is new in a level
// may be proposed only once SetFeatureLevel has raised the cluster to it,
// which it does only when every node has registered with that level.
const (
	BaseFeatureLevel = 1
	FeatureLevel     = 1
)

// commandDef is what this release knows of a command type.
type commandDef struct {
	version uint8  // the newest; all from 1 on are understood
	level   uint32 // feature level from which it may be used
	apply   func(*machine, *envelope) (Result, error)
}

// commandDefs is indexed by type.
var commandDefs = [...]commandDef{
	CmdSubmit:          {1, 1, (*machine).applySubmit},
	CmdCancel:          {1, 1, (*machine).applyCancel},
	CmdAssign:          {1, 1, (*machine).applyAssign},
	CmdReport:          {1, 1, (*machine).applyReport},
	CmdTick:            {1, 1, (*machine).applyTick},
	CmdRegisterNode:    {1, 1, (*machine).applyRegisterNode},
	CmdExpireWorker:    {1, 1, (*machine).applyExpireWorker},
	CmdDrainNode:       {1, 1, (*machine).applyDrainNode},
	CmdRemoveNode:      {1, 1, (*machine).applyRemoveNode},
	CmdCreateToken:     {1, 1, (*machine).applyCreateToken},
	CmdRevokeToken:     {1, 1, (*machine).applyRevokeToken},
	CmdAdmitNode:       {1, 1, (*machine).applyAdmitNode},
	CmdInitCluster:     {1, 1, (*machine).applyInitCluster},
	CmdSetFeatureLevel: {1, 1, (*machine).applySetFeatureLevel},
}

func commandInfo(t CommandType) (*commandDef, bool) {
	if int(t) >= len(commandDefs) || commandDefs[t].apply == nil {
		return nil, false
	}
	return &commandDefs[t], true
}

// newerError says that input comes from a release that knows more.
type newerError struct{ what string }

func (e *newerError) Error() string {
	return e.what + " is unknown to this release (feature level " + fmt.Sprint(FeatureLevel) + "): upgrade this node"
}

func isNewer(err error) bool {
	_, ok := errors.AsType[*newerError](err)
	return ok
}

func checkVersion(t CommandType, version uint8) (*commandDef, error) {
	info, ok := commandInfo(t)
	if !ok {
		return nil, &newerError{fmt.Sprintf("command type %d", t)}
	}
	if version == 0 || version > info.version {
		return nil, &newerError{fmt.Sprintf("version %d of command %s", version, t)}
	}
	return info, nil
}

// StopError is returned by State.Apply when the log holds something that this
// release does not understand. Skipping it would make this replica differ
// from the others, so the node must stop.
type StopError struct {
	Index   uint64 // of the raft entry
	Command int    // position in the batch, -1 = the batch itself
	Err     error
}

func (e *StopError) Error() string {
	if e.Command < 0 {
		return fmt.Sprintf("apply log entry %d: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("apply log entry %d, command %d: %v", e.Index, e.Command, e.Err)
}

func (e *StopError) Unwrap() error { return e.Err }

// Check says whether a command may be proposed: that this release understands
// it and that it is well-formed. The leader asks before it proposes what
// another node has sent, so that no peer can put into the log what would stop
// every replica. It does not look at any state.
func Check(cmd []byte) error {
	e, err := decodeEnvelope(cmd)
	if err != nil {
		return fmt.Errorf("check command: %w", err)
	}
	if _, err := checkVersion(e.kind, e.version); err != nil {
		return fmt.Errorf("check command: %w", err)
	}
	if err := checkBody(&e); err != nil {
		return fmt.Errorf("check command %s: %w", e.kind, err)
	}
	return nil
}
