package auth

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	failuresPerSecond = 1    // of one source, sustained
	failureBurst      = 20   // a misconfigured fleet behind one address may try this often at once
	maxSources        = 4096 // some 150 bytes each
)

// sources counts failures by address, in a table of bounded size.
type sources struct {
	mu       sync.Mutex
	limits   map[netip.Prefix]*rate.Limiter
	overflow *rate.Limiter // shared by sources that find the table full
	swept    time.Time     // the table is searched for room once a second at most
}

func newSources() *sources {
	return &sources{
		limits:   make(map[netip.Prefix]*rate.Limiter),
		overflow: rate.NewLimiter(failuresPerSecond, failureBurst),
	}
}

// fail counts a failure and reports whether it is within the limit, and if
// not, after how long the next one is.
func (s *sources) fail(addr string, now time.Time) (ok bool, retry time.Duration) {
	l := s.limiter(sourceOf(addr), now)
	if l.AllowN(now, 1) {
		return true, 0
	}
	r := l.ReserveN(now, 1)
	retry = r.DelayFrom(now)
	r.CancelAt(now)
	return false, retry
}

// mayFail reports whether a failure now would be within the limit.
func (s *sources) mayFail(addr string, now time.Time) bool {
	return s.limiter(sourceOf(addr), now).TokensAt(now) >= 1
}

func (s *sources) limiter(key netip.Prefix, now time.Time) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.limits[key]; ok {
		return l
	}
	if len(s.limits) >= maxSources && now.Sub(s.swept) >= time.Second {
		s.swept = now
		// One that is full again says nothing that a new one would not.
		for k, l := range s.limits {
			if l.TokensAt(now) >= failureBurst {
				delete(s.limits, k)
			}
		}
	}
	if len(s.limits) >= maxSources {
		return s.overflow
	}
	l := rate.NewLimiter(failuresPerSecond, failureBurst)
	s.limits[key] = l
	return l
}

// sourceOf gives what is limited together: an IPv4 address, or the /64 of an
// IPv6 address, of which one host has 2^64. Anything else (the unix socket) is
// one source.
func sourceOf(addr string) netip.Prefix {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
