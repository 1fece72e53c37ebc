package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Defaults of Config and Retries.
const (
	// DefaultTimeout bounds one attempt of a call that has one answer. It is
	// well above the 1.5 s after which a lost leader is replaced.
	DefaultTimeout = 30 * time.Second

	// DefaultAttempts with the backoffs below spans about 3.5 s: more than
	// two elections in a row, less than a person at a prompt will wait.
	DefaultAttempts   = 8
	DefaultMinBackoff = 50 * time.Millisecond
	DefaultMaxBackoff = time.Second
)

// Config says which cluster to talk to, whom to trust and how hard to try.
type Config struct {
	// Addrs are nodes' addresses, host:port or https://host:port. Any node
	// answers any request; the client stays with the last good one.
	Addrs []string
	// UnixSocket is the path of a local node's socket. It excludes Addrs and
	// needs neither Token nor a trust anchor: the node checks the caller's
	// user ID.
	UnixSocket string
	// Token is the API token, "hf_<id>_<secret>".
	Token string
	// CAPin is the pin of the cluster's CA, "sha256:<hex>", as the cluster
	// prints it. CACert is the CA's certificate in PEM. One of them is needed
	// with Addrs; with both, both must hold.
	CAPin  string
	CACert []byte
	// Timeout bounds one attempt of a call that has one answer; streams are
	// bounded by their context alone. Zero is DefaultTimeout.
	Timeout time.Duration
	// Retry bounds the retries of a call.
	Retry Retries
	// UserAgent is sent along; empty is "holdfast-go".
	UserAgent string
	// NoMonotonic lets stale reads go back in time. By default a stale read
	// asks for at least the highest index that this client has seen.
	NoMonotonic bool
	// OnRetry, if set, hears of every failed attempt that will be repeated.
	// It must not block.
	OnRetry func(RetryEvent)
	// OnAnswer, if set, hears of every answer, refusals too, before the call
	// that it belongs to ends. It must not block.
	OnAnswer func(Answer)

	now       func() time.Time  // clock of the memory of bad addresses; nil is time.Now
	transport http.RoundTripper // tests only; nil makes one from the fields above
}

// Retries bounds the repetition of a failed call. Zero fields take defaults;
// Attempts of 1 means none.
type Retries struct {
	Attempts   int
	MinBackoff time.Duration // before the second try at the same address; doubles
	MaxBackoff time.Duration
}

// RetryEvent tells of an attempt that failed and will be repeated.
type RetryEvent struct {
	Op      string // what was tried
	Addr    string // at which address
	Attempt int    // from 1
	Err     error
	Delay   time.Duration // before the next attempt
}

// Answer tells which node answered and how fresh that is.
type Answer struct {
	Addr   string
	Status int
	Index  uint64        // log index that it reflects; 0 if not said
	Age    time.Duration // of a stale read: since the node was last known to be current; -1 if not said
}

// ErrConfig is wrapped by every error of New.
var ErrConfig = errors.New("client configuration")

// withDefaults checks the configuration and fills in what it leaves out.
func (c Config) withDefaults() (Config, error) {
	if c.UnixSocket != "" && len(c.Addrs) > 0 {
		return c, fmt.Errorf("%w: a unix socket and addresses exclude each other", ErrConfig)
	}
	if c.UnixSocket == "" && len(c.Addrs) == 0 {
		return c, fmt.Errorf("%w: no address: give at least one node as host:port", ErrConfig)
	}
	if c.Retry.Attempts < 0 || c.Retry.MinBackoff < 0 || c.Retry.MaxBackoff < 0 || c.Timeout < 0 {
		return c, fmt.Errorf("%w: attempts, backoffs and timeout must not be negative", ErrConfig)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Retry.Attempts == 0 {
		c.Retry.Attempts = DefaultAttempts
	}
	if c.Retry.MinBackoff == 0 {
		c.Retry.MinBackoff = DefaultMinBackoff
	}
	if c.Retry.MaxBackoff == 0 {
		c.Retry.MaxBackoff = DefaultMaxBackoff
	}
	if c.Retry.MaxBackoff <= c.Retry.MinBackoff {
		// The retry library demands a maximum above the minimum.
		c.Retry.MaxBackoff = c.Retry.MinBackoff + 1
	}
	if c.UserAgent == "" {
		c.UserAgent = "holdfast-go"
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

// ParseAddr reads host:port or https://host:port and returns host:port.
func ParseAddr(s string) (string, error) {
	hostport := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return "", fmt.Errorf("%w: address %q: want host:port or https://host:port", ErrConfig, s)
		}
		hostport = u.Host
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || host == "" || port == "" || strings.ContainsAny(hostport, "/@ ") {
		return "", fmt.Errorf("%w: address %q: want host:port or https://host:port", ErrConfig, s)
	}
	return hostport, nil
}

func parseAddrs(list []string) ([]string, error) {
	out := make([]string, len(list))
	for i, s := range list {
		var err error
		if out[i], err = ParseAddr(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}
