package transport

import (
	"errors"

	"github.com/quic-go/quic-go"
)

// Errors of this package. They arrive wrapped.
var (
	// ErrClosed: the Mux is closed.
	ErrClosed = errors.New("transport: closed")
	// ErrNoRoots: this node does not know its cluster's CA yet; only
	// DialPinned works.
	ErrNoRoots = errors.New("transport: no cluster roots yet, join a cluster first")
	// ErrNoIdentity: this node has no certificate yet.
	ErrNoIdentity = errors.New("transport: no node certificate yet, join a cluster first")
	// ErrBadClass: the class is unknown, or does not allow what was asked.
	ErrBadClass = errors.New("transport: class does not allow this")
	// ErrWrongCluster: the peer's certificate names another cluster.
	ErrWrongCluster = errors.New("transport: peer belongs to another cluster")
	// ErrWrongNode: another node answers at the address.
	ErrWrongNode = errors.New("transport: another node answers")
	// ErrRevoked: the peer was removed from the cluster.
	ErrRevoked = errors.New("transport: peer is revoked")
	// ErrPinMismatch: no CA in the server's chain has the pinned key.
	ErrPinMismatch = errors.New("transport: the server's CA is not the pinned one")
	// ErrTooMany: a limit on connections or handshakes is reached.
	ErrTooMany = errors.New("transport: too many connections")
)

// RevokedByPeer reports whether err is a peer's own word that it closed
// because this node was removed from the cluster. The peer has proved who it
// is by then.
func RevokedByPeer(err error) bool {
	var app *quic.ApplicationError
	return errors.As(err, &app) && app.Remote && app.ErrorCode == codeRevoked
}

// RefusedByPeer reports whether err is a peer's refusal of this node's
// certificate during the handshake. The TLS library has one alert for all
// reasons: removed, expired, or of another cluster.
func RefusedByPeer(err error) bool {
	const badCertificate = 0x100 + 42 // RFC 9001 section 4.8, RFC 8446 section 6.2
	var refusal *quic.TransportError
	return errors.As(err, &refusal) && refusal.Remote && refusal.ErrorCode == badCertificate
}

// Close codes on the wire (QUIC application error codes).
const (
	codeNormal   quic.ApplicationErrorCode = 0
	codeShutdown quic.ApplicationErrorCode = 1 // the process is stopping
	codeAged     quic.ApplicationErrorCode = 2 // replaced or too old
	codeRevoked  quic.ApplicationErrorCode = 3
	codeTooMany  quic.ApplicationErrorCode = 4
	codeExpired  quic.ApplicationErrorCode = 5 // the peer's certificate has ended
)

// streamCancelled is the one code that streams are cancelled with; the reason
// for a refusal travels in the protocol above.
const streamCancelled quic.StreamErrorCode = 0
