package transport

import (
	"errors"
	"fmt"

	"github.com/quic-go/quic-go"
)

// Evidence is a sign that a peer's process has ended. It is a hint: the
// network can forge a refusal, and a process may have been restarted since.
// What to make of it is decided elsewhere.
type Evidence uint8

// The kinds of evidence.
const (
	// EvidenceRefused: the peer's host says that nobody listens on its port.
	EvidenceRefused Evidence = iota + 1
	// EvidenceClosed: the peer said that it is shutting down. Authenticated.
	EvidenceClosed
	// EvidenceReset: the peer's port is served by a process that does not know
	// our connection: it has restarted. Authenticated by the reset token.
	EvidenceReset
)

// String returns the kind's name for messages and metrics.
func (e Evidence) String() string {
	switch e {
	case EvidenceRefused:
		return "refused"
	case EvidenceClosed:
		return "closed"
	case EvidenceReset:
		return "reset"
	}
	return fmt.Sprintf("evidence(%d)", uint8(e))
}

// evidenceOf reads the end of a connection. Only a shutdown counts among the
// peer's reasons to close: one that replaces an old connection is alive.
func evidenceOf(cause error) (Evidence, bool) {
	var app *quic.ApplicationError
	var reset *quic.StatelessResetError
	switch {
	case errors.As(cause, &app) && app.Remote && app.ErrorCode == codeShutdown:
		return EvidenceClosed, true
	case errors.As(cause, &reset):
		return EvidenceReset, true
	}
	return 0, false
}
