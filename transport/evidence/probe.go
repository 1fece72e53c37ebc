package evidence

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"holdfast/transport"
)

const (
	// defaultInterval between probes: 200 packets of one byte per second and
	// follower, for 5 ms at most until a death is noticed.
	defaultInterval = 5 * time.Millisecond
	// defaultBusyInterval is in force while somebody would wait. Most of an
	// outage is the time until it is noticed, and each millisecond of it costs
	// about 1 % of a core. Timers of the runtime are no finer.
	defaultBusyInterval = time.Millisecond
	// reportPause follows a report: the receiver has its own limits, this one
	// keeps a dead address from being a busy loop.
	reportPause = 50 * time.Millisecond
	// redialPause follows a failure to open or use a socket (no route, no
	// descriptors).
	redialPause = 100 * time.Millisecond
)

// notQUIC is the byte of a probe. Bit 0x40 is clear, so that quic-go takes it
// for some other protocol and drops it.
const notQUIC = 0x00

// Config says how a Prober is to be built.
type Config struct {
	// Report hears of refusals. It must not block.
	Report func(peer string, kind transport.Evidence)
	// Dial opens a connected UDP socket; nil for the real one. faults.Net has
	// one, so that a broken network breaks the probe as well.
	Dial func(addr string) (net.Conn, error)
	// Interval between two probes, default 5 ms; BusyInterval while Busy says
	// that the leader is being used, default 1 ms. Busy may be nil: never.
	Interval, BusyInterval time.Duration
	Busy                   func() bool
}

// Prober watches one peer at a time.
type Prober struct {
	cfg    Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	target  target
	changed chan struct{} // closed when target is replaced
}

type target struct{ peer, addr string }

// New starts a Prober without a target.
func New(cfg Config) *Prober {
	if cfg.Dial == nil {
		cfg.Dial = func(addr string) (net.Conn, error) { return net.Dial("udp", addr) }
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.BusyInterval == 0 {
		cfg.BusyInterval = defaultBusyInterval
	}
	if cfg.Busy == nil {
		cfg.Busy = func() bool { return false }
	}
	p := &Prober{cfg: cfg, done: make(chan struct{}), changed: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background()) // the prober's own life
	go p.run()
	return p
}

// Watch replaces the target. An empty addr stops the probes (this node leads,
// or nobody does).
func (p *Prober) Watch(peer, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := (target{peer, addr}); t != p.target {
		p.target = t
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// Close stops the probes and waits for the goroutine.
func (p *Prober) Close() {
	p.cancel()
	<-p.done
}

func (p *Prober) current() (target, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target, p.changed
}

func (p *Prober) run() {
	defer close(p.done)
	for p.ctx.Err() == nil {
		t, changed := p.current()
		if t.addr == "" {
			select {
			case <-changed:
			case <-p.ctx.Done():
			}
			continue
		}
		pause := redialPause
		if p.watch(t, changed) {
			// Only for a target that still stands: the report names it.
			p.cfg.Report(t.peer, transport.EvidenceRefused)
			pause = reportPause
		}
		p.wait(pause, changed)
	}
}

// wait pauses; a new target or Close ends the pause.
func (p *Prober) wait(d time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-p.ctx.Done():
	}
}

// watch probes until the target is refused (true), changes, or the socket
// fails.
func (p *Prober) watch(t target, changed <-chan struct{}) (refused bool) {
	c, err := p.cfg.Dial(t.addr)
	if err != nil {
		return false
	}
	defer c.Close()
	pace := time.NewTimer(0)
	defer pace.Stop()
	var buf [64]byte
	for {
		interval := p.cfg.Interval
		if p.cfg.Busy() {
			interval = p.cfg.BusyInterval
		}
		pace.Reset(interval)
		// The kernel hands a refusal to whichever call comes next.
		if _, err := c.Write([]byte{notQUIC}); err != nil {
			return p.verdict(err, changed)
		}
		_ = c.SetReadDeadline(time.Now().Add(interval))
		if _, err := c.Read(buf[:]); err != nil {
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() {
				return p.verdict(err, changed)
			}
		}
		select { // paces the loop should the peer answer something
		case <-pace.C:
		case <-changed:
			return false
		case <-p.ctx.Done():
			return false
		}
	}
}

func (p *Prober) verdict(err error, changed <-chan struct{}) bool {
	select {
	case <-changed:
		return false
	default:
		return errors.Is(err, syscall.ECONNREFUSED)
	}
}
