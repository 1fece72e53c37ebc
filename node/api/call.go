package api

import (
	"context"
	"net/http"
	"time"

	"holdfast/fsm"
)

// call is what the rooms of one request share. The request's own goroutine
// owns it.
type call struct {
	id        uint64 // of this process's requests, for the log
	started   time.Time
	principal string
	role      fsm.Role
	source    string // address of the caller
	ownOnly   bool   // the policy allows it to what the principal owns
	op        *opState
	target    string // for the audit
	long      bool   // counted among the long requests
	w         *response
	r         *http.Request
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callOf never fails: the outer handler puts a call into every request.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// response remembers what was sent and gives each write its own deadline: a
// client that does not read ends its request, not the node's patience.
type response struct {
	http.ResponseWriter
	rc      *http.ResponseController
	now     func() time.Time
	timeout time.Duration
	status  int
	failed  bool // a write failed: the caller is gone
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader remembers the status. The first one counts: huma sets one after
// an operation that has written its own answer.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.extend()
	n, err := w.ResponseWriter.Write(b)
	w.failed = w.failed || err != nil
	return n, err
}

// begin starts an answer that the operation writes itself.
func (w *response) begin(contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
}

// Flush sends what is buffered.
func (w *response) Flush() error {
	w.extend()
	return w.rc.Flush()
}

// extend moves the deadline. A server without deadlines (HTTP/3, a test's
// recorder) refuses, and then bounds its clients in its own way.
func (w *response) extend() { _ = w.rc.SetWriteDeadline(w.now().Add(w.timeout)) }
