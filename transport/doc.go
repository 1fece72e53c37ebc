// Package transport carries all traffic between nodes, and the pipelined RPC
// of clients, over one UDP socket: QUIC with TLS 1.3 and certificates on both
// sides.
//
// # Classes
//
// Traffic is divided into classes ([Class]), one QUIC connection per class and
// peer, told apart by ALPN. Streams of one QUIC connection share its
// congestion window and its flow control, so a snapshot on the connection of
// the heartbeats would delay them; a snapshot on its own connection cannot.
//
// # Invariants
//
//   - No handler sees a connection of a mutual class before the peer's chain,
//     SPIFFE ID, cluster, key fingerprint and revocation were checked, and no
//     dialler gets one before the peer has checked the dialler (see below).
//   - A handshake is offered exactly one protocol. A client that lists a class
//     without certificates first gets that class and nothing else.
//   - No session tickets and no 0-RTT: a resumed session would carry the
//     verdict of an earlier handshake past a revocation.
//   - Everything is bounded by [Limits].
//   - After [Mux.Close] no goroutine of the package is left.
//
// # When a dialled connection is authenticated
//
// In TLS 1.3 the client is done one flight before the server has judged the
// client's certificate: quic-go's Dial succeeds towards a server that is about
// to refuse. The accepting side therefore sends a greeting on a unidirectional
// stream once its checks have passed, and [Mux.Dial] returns after the
// greeting. A refusal comes back as Dial's error, not as a broken first
// request.
//
// # Life of a connection
//
// A live connection outlives the expiry and the revocation of its certificate;
// nothing in QUIC checks again. So: [Mux.CloseNode] closes both directions at
// once; the upkeep goroutine closes a connection when the peer's certificate
// expires, and replaces a dialled one by age, with jitter: it dials the
// replacement first, then lets the old one drain.
//
// # Goroutines and locks
//
// Mux owns: one accept loop; one upkeep loop; one goroutine per handler of an
// accepted connection; one short-lived goroutine per dial and per end of a
// connection. quic-go owns its own per connection. Mux.mu guards the
// connection tables and is a leaf lock, as is gate.mu: neither is held while
// calling quic-go, a handler or a callback.
package transport
