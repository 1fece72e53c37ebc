// Package rpc carries requests between nodes: unary calls and long streams,
// each on a stream of its own of an authenticated connection. It knows
// neither transport nor consensus: connections and handlers are given to it.
//
// Wire format: a frame is a big-endian uint32 length and that many bytes of
// CBOR. The opener of a stream sends one hello frame {1: method, 2: body}. A
// unary method answers with one reply frame {1: body, 2: error} and both
// sides close. A streaming method answers with one reply frame (so that the
// opener knows that it was accepted) and then owns the stream.
//
// Goroutines: none of its own. ServeStream runs on its caller's, and a stream
// that is still open when the context ends is closed under the handler.
package rpc
