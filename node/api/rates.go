package api

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// maxPrincipals bounds the table of rates; some 200 bytes each. There are at
// most 10,000 tokens.
const maxPrincipals = 16_384

// rates holds one limiter per principal that was seen lately.
type rates struct {
	limit rate.Limit
	burst int

	mu       sync.Mutex
	limiters map[string]*rate.Limiter
}

func newRates(l Limits) *rates {
	return &rates{limit: rate.Limit(l.RatePerSecond), burst: l.Burst, limiters: map[string]*rate.Limiter{}}
}

func (r *rates) of(principal string, now time.Time) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l, ok := r.limiters[principal]; ok {
		return l
	}
	if len(r.limiters) >= maxPrincipals {
		for k, l := range r.limiters {
			if l.TokensAt(now) >= float64(r.burst) || len(r.limiters) >= 2*maxPrincipals {
				delete(r.limiters, k) // it is full again, as a new one would be
			}
		}
	}
	l := rate.NewLimiter(r.limit, r.burst)
	r.limiters[principal] = l
	return l
}

// take spends n at once, or says after how long it could.
func (r *rates) take(principal string, n int, now time.Time) (ok bool, retry time.Duration) {
	l := r.of(principal, now)
	res := l.ReserveN(now, n)
	if !res.OK() {
		return false, time.Second
	}
	if retry = res.DelayFrom(now); retry > 0 {
		res.CancelAt(now)
		return false, retry
	}
	return true, 0
}

// slots is a number of requests at a time.
type slots struct {
	n    atomic.Int64
	most int64
}

func (s *slots) enter() bool {
	if s.n.Add(1) > s.most {
		s.n.Add(-1)
		return false
	}
	return true
}

func (s *slots) leave() { s.n.Add(-1) }
