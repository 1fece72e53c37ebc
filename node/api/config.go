package api

import (
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what the API needs. Backend, Authenticator, Policy, Audit and
// Minter must be given.
type Config struct {
	Backend       Backend
	Authenticator Authenticator
	Policy        Policy
	Audit         Audit
	Minter        Minter
	Limits        Limits
	Logger        hclog.Logger         // default: none
	Registry      *prometheus.Registry // holds the API's metrics and is what /metrics shows; default: a new one
	Now           func() time.Time     // default time.Now
	Rand          io.Reader            // of request IDs; default crypto/rand
	Version       string               // of the program, for the API's description
}

// Limits bound the API. Zero values take the defaults.
type Limits struct {
	InFlight        int           // requests at a time, without the long ones; default 4096
	LongInFlight    int           // waits, streams, outputs, snapshots at a time; default 4096
	RatePerSecond   float64       // tasks and other requests of one principal; default 50,000
	Burst           int           // of the same; default 100,000, at least 1,000 (a batch)
	ReadTimeout     time.Duration // until a read is fresh; default 5 s
	ProposeTimeout  time.Duration // until a command has an outcome; default 10 s
	BodyTimeout     time.Duration // for a whole body of a short request; default 10 s
	StreamIdle      time.Duration // between bytes of a stream, either way; default 2 min
	WriteTimeout    time.Duration // for one write to a client that does not read; default 30 s
	MaxURLBytes     int           // path and query; default 8 KiB
	MaxSpecBody     int64         // JSON of one task; default 512 KiB
	MaxBatchBody    int64         // JSON of a batch; default 8 MiB
	MaxSnapshotBody int64         // default 64 GiB
	StreamLines     int           // of one stream in flight; default 1024
	StreamBytes     int           // of one stream or session in flight; default 4 MiB
	FastInFlight    int           // requests of one session of the RPC without an answer; default 4096
}

func (l Limits) withDefaults() Limits {
	set(&l.InFlight, 4096)
	set(&l.LongInFlight, 4096)
	// Far above what a cluster commits: these limits keep one runaway client
	// from starving the others, admission is the queue's bound.
	set(&l.RatePerSecond, 50_000)
	set(&l.Burst, 100_000)
	l.Burst = max(l.Burst, maxBatch)
	set(&l.ReadTimeout, 5*time.Second)
	set(&l.ProposeTimeout, 10*time.Second)
	set(&l.BodyTimeout, 10*time.Second)
	set(&l.StreamIdle, 2*time.Minute)
	set(&l.WriteTimeout, 30*time.Second)
	set(&l.MaxURLBytes, 8<<10)
	// 64 KiB of spec as JSON: escaped as \u00XX, every byte takes six.
	set(&l.MaxSpecBody, 512<<10)
	set(&l.MaxBatchBody, 8<<20)
	set(&l.MaxSnapshotBody, 64<<30)
	set(&l.StreamLines, 1024)
	set(&l.StreamBytes, 4<<20)
	// At 50,000 commits a second and 20 ms each, 1,000 are under way.
	set(&l.FastInFlight, 4096)
	l.FastInFlight = max(l.FastInFlight, groupLines)
	l.StreamBytes = max(l.StreamBytes, int(l.MaxSpecBody)) // the longest line must fit
	return l
}

func set[T int | int64 | float64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

func (c Config) withDefaults() (Config, error) {
	if c.Backend == nil || c.Authenticator == nil || c.Policy == nil || c.Audit == nil || c.Minter == nil {
		return c, fmt.Errorf("api: Backend, Authenticator, Policy, Audit and Minter must be given")
	}
	c.Limits = c.Limits.withDefaults()
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	return c, nil
}
