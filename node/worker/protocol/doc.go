// Package protocol is the language between a worker and the leader: the
// messages of one session and their framing.
//
// A session is one ordered byte stream that the worker opens to the leader.
// The worker speaks first (Hello), the leader answers Welcome or Refuse.
// Afterwards both sides send whenever they have something to say:
//
//	worker -> leader   Hello Renew Report
//	leader -> worker   Welcome Refuse Renewed Assign Revoke Reported
//
// A frame is the length of what follows (4 bytes, big endian), the kind (1
// byte) and a CBOR map with integer keys. Unknown keys are ignored, so that a
// later release may add some; an unknown kind ends the session. Golden files
// hold every message.
//
// Reader and Writer belong to one goroutine each. Nothing here starts one.
package protocol
