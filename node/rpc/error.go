package rpc

import "fmt"

// Code tells errors apart across the wire.
type Code uint8

// The codes. The numbers are part of the wire format.
const (
	CodeInternal    Code = iota + 1
	CodeInvalid          // the request makes no sense to this node
	CodeNotFound         // no such method or thing
	CodeNotLeader        // Leader and LeaderAddr say who is, if known
	CodeOverloaded       // definite: nothing was done, try again later
	CodeUnknown          // the outcome is unknown: it may or may not have happened
	CodeForbidden        // the peer may not ask this
	CodeUnavailable      // definite: this node cannot do it now
)

// Error is a handler's error as the other side sees it. Handlers return one to
// choose the code; any other error travels as CodeInternal.
type Error struct {
	Code       Code   `cbor:"1,keyasint"`
	Message    string `cbor:"2,keyasint,omitempty"`
	Leader     string `cbor:"3,keyasint,omitempty"`
	LeaderAddr string `cbor:"4,keyasint,omitempty"`
}

// Error gives the message as the other side put it.
func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
