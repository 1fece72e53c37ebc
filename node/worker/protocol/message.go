package protocol

import (
	"time"

	"holdfast/fsm"
)

// Version is what this release speaks. A leader refuses what it cannot read.
const Version = 1

// Kind is the type byte of a frame. The numbers are part of the wire format.
type Kind uint8

// The kinds of message.
const (
	KindHello Kind = iota + 1
	KindWelcome
	KindRefuse
	KindRenew
	KindRenewed
	KindAssign
	KindRevoke
	KindReport
	KindReported
)

// Key names one attempt.
type Key struct {
	Task    fsm.TaskID `cbor:"1,keyasint"`
	Attempt uint32     `cbor:"2,keyasint"`
}

// Hello opens a session. It counts as a renewal.
type Hello struct {
	Version     uint32     `cbor:"1,keyasint"`
	Node        fsm.NodeID `cbor:"2,keyasint"`
	Incarnation uint64     `cbor:"3,keyasint"`
	Attempts    []Key      `cbor:"4,keyasint,omitempty"` // waiting, running, or ended and not yet reported
}

// Welcome accepts a session. It acknowledges the Hello as a renewal, so it is
// sent only after the leader verified its office after the Hello's receipt.
type Welcome struct {
	Version    uint32        `cbor:"1,keyasint"`
	Term       uint64        `cbor:"2,keyasint"`           // of the leader's office
	Lease      time.Duration `cbor:"3,keyasint"`           // ns
	Superseded []Revocation  `cbor:"4,keyasint,omitempty"` // of Hello.Attempts, those that the state no longer holds
}

// RefuseCode says why the leader ends or refuses a session.
type RefuseCode uint8

// The codes.
const (
	RefuseNotLeader RefuseCode = iota + 1 // ask whoever leads now
	RefuseRegister                        // the state does not know this incarnation as alive: stop everything, register, come back
	RefuseRemoved                         // the node was removed from the cluster for ever
	RefuseVersion                         // the leader does not speak this version
	RefuseProtocol                        // a message out of place
	RefuseBusy                            // try again later
)

// Refuse is the last message of a session.
type Refuse struct {
	Code   RefuseCode `cbor:"1,keyasint"`
	Detail string     `cbor:"2,keyasint,omitempty"` // for people
}

// Renew asks for another lease, from the moment it was sent.
type Renew struct {
	Seq uint64 `cbor:"1,keyasint"`
}

// Renewed grants it.
type Renewed struct {
	Seq uint64 `cbor:"1,keyasint"`
}

// Assignment is one attempt to start.
type Assignment struct {
	Key  Key    `cbor:"1,keyasint"`
	Spec []byte `cbor:"2,keyasint"` // an encoded fsm.Spec
}

// Assign tells the worker what to start. Repeats are harmless.
type Assign struct {
	Items []Assignment `cbor:"1,keyasint"`
}

// Revocation is one attempt to stop.
type Revocation struct {
	Key   Key  `cbor:"1,keyasint"`
	Grace bool `cbor:"2,keyasint,omitempty"` // the task's own kill grace applies; otherwise it is killed at once
}

// Revoke tells the worker which attempts are superseded. Their ends are
// reported like any other: only then does the state give their capacity, and
// the next attempts of their tasks, to anybody. An attempt that the worker
// never had is reported at once.
type Revoke struct {
	Items []Revocation `cbor:"1,keyasint"`
}

// Report brings the ends of attempts. A worker has one unanswered Report at a
// time, and repeats it in the next session if this one ends before the answer.
type Report struct {
	Seq     uint64              `cbor:"1,keyasint"`
	Reports []fsm.AttemptReport `cbor:"2,keyasint"`
}

// Reported answers a Report.
type Reported struct {
	Seq uint64 `cbor:"1,keyasint"`
	// Retry is false when the ends are committed or superseded: the worker
	// may forget them. True asks for the same report again, later.
	Retry bool `cbor:"2,keyasint,omitempty"`
}
