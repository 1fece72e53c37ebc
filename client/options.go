package client

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// MaxIdempotencyKey is the longest Idempotency-Key, in printable ASCII.
const MaxIdempotencyKey = 128

// CallOption changes one call.
type CallOption func(*callOptions)

type callOptions struct {
	stale    bool
	maxAge   time.Duration
	minIndex uint64
	key      string
	hash     bool
}

// Stale lets the answering node read its own state without asking the leader,
// if that state is at most maxAge old; zero or less allows any age.
func Stale(maxAge time.Duration) CallOption {
	return func(o *callOptions) { o.stale, o.maxAge = true, maxAge }
}

// MinIndex makes a read wait until the answering node has applied index.
func MinIndex(index uint64) CallOption {
	return func(o *callOptions) { o.minIndex = max(o.minIndex, index) }
}

// IdempotencyKey names the request of a mutation: every call with this key has
// the effect of one. Without it the client makes one per call, which protects
// the call's own retries; give one to protect retries of your program too. At
// most 128 printable characters.
func IdempotencyKey(key string) CallOption {
	return func(o *callOptions) { o.key = key }
}

// StateHash has Cluster tell the hash of the answering node's state, which
// takes time with many tasks.
func StateHash() CallOption {
	return func(o *callOptions) { o.hash = true }
}

func options(opts []CallOption) callOptions {
	var o callOptions
	for _, f := range opts {
		f(&o)
	}
	return o
}

// read returns the query of a read.
func (c *Client) readQuery(opts []CallOption) url.Values {
	o, q := options(opts), url.Values{}
	if o.stale {
		q.Set("consistency", "stale")
		if o.maxAge > 0 {
			q.Set("max_age", o.maxAge.String())
		}
		// A linearizable read is never behind; asking it for an index would
		// only make it wait after a restore into a shorter log.
		if !c.cfg.NoMonotonic {
			o.minIndex = max(o.minIndex, c.LastIndex())
		}
	}
	if o.minIndex > 0 {
		q.Set("min_index", strconv.FormatUint(o.minIndex, 10))
	}
	return q
}

// writeHeader returns the headers of a mutation, with its one key.
func writeHeader(opts []CallOption) (http.Header, error) {
	o := options(opts)
	if o.key == "" {
		o.key = rand.Text()
	}
	if len(o.key) > MaxIdempotencyKey {
		return nil, &permanentError{fmt.Errorf("idempotency key of %d bytes: want at most %d", len(o.key), MaxIdempotencyKey)}
	}
	for _, r := range []byte(o.key) {
		if r < 0x21 || r > 0x7e {
			return nil, &permanentError{fmt.Errorf("idempotency key %q: want printable ASCII without spaces", o.key)}
		}
	}
	return http.Header{"Idempotency-Key": {o.key}}, nil
}
