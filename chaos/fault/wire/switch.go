package wire

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxHeld bounds the packets that are held back at a time.
const maxHeld = 16384

// Switch joins the ports.
type Switch struct {
	mu     sync.Mutex
	ports  []*Port
	byAddr map[netip.Addr]*Port
	rules  []*Active
	rng    *rand.Rand
	held   heldPackets
	serial int
	closed bool

	wake chan struct{}
	done chan struct{}
	wg   sync.WaitGroup
}

// New makes a switch without ports.
func New(seed uint64) *Switch {
	s := &Switch{byAddr: map[netip.Addr]*Port{}, rng: rand.New(rand.NewPCG(seed, 0x77697265)),
		wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.wg.Add(1)
	go s.release()
	return s
}

// Add joins a new host, in a new namespace.
func (s *Switch) Add(name string) (*Port, error) { return s.add(name, false) }

// AddHere joins this process's own namespace, which must not be the host's.
func (s *Switch) AddHere(name string) (*Port, error) { return s.add(name, true) }

func (s *Switch) add(name string, here bool) (*Port, error) {
	s.mu.Lock()
	n := len(s.ports) + 1
	s.mu.Unlock()
	if n > 250 {
		return nil, errors.New("the network is full")
	}
	p, err := openPort(name, netip.AddrFrom4([4]byte{10, 77, 0, byte(n)}), here)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(errors.New("the switch is closed"), p.close())
	}
	s.ports = append(s.ports, p)
	s.byAddr[p.Addr] = p
	s.wg.Add(1)
	go s.pump(p)
	return p, nil
}

// Set puts a rule in force until it is removed.
func (s *Switch) Set(r Rule) *Active {
	a := &Active{Rule: r, on: s, free: map[way]time.Time{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, a)
	return a
}

func (s *Switch) remove(a *Active) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = slices.DeleteFunc(s.rules, func(r *Active) bool { return r == a })
}

// Rules is how many rules are in force.
func (s *Switch) Rules() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rules)
}

// pump takes what a host sends.
func (s *Switch) pump(from *Port) {
	defer s.wg.Done()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.tun.Read(buf)
		if err != nil {
			return // closed
		}
		s.forward(from, buf[:n])
	}
}

// minIPv4 is a header without options.
const minIPv4 = 20

func (s *Switch) forward(from *Port, b []byte) {
	if len(b) < minIPv4 || b[0]>>4 != 4 {
		return // the kernel's own IPv6 chatter
	}
	dst := netip.AddrFrom4([4]byte(b[16:20]))
	s.mu.Lock()
	to := s.byAddr[dst]
	if to == nil || s.closed {
		s.mu.Unlock()
		return
	}
	f := s.judge(from, to, b)
	if f.lost || f.delay > 0 && len(s.held)+f.copies > maxHeld {
		s.mu.Unlock()
		return
	}
	for range f.flips {
		flip(b, s.rng.IntN(1<<20), s.rng.IntN(2) == 0)
	}
	if f.delay > 0 {
		at := time.Now().Add(f.delay)
		for range f.copies {
			s.serial++
			heap.Push(&s.held, heldPacket{at, s.serial, to, slices.Clone(b)})
		}
		s.mu.Unlock()
		select {
		case s.wake <- struct{}{}:
		default:
		}
		return
	}
	s.mu.Unlock()
	for range f.copies {
		_, _ = to.tun.Write(b) // a host whose queue is full loses packets
	}
}

// judge puts a packet under every rule of its way. The lock is held.
func (s *Switch) judge(from, to *Port, b []byte) fate {
	f := fate{copies: 1}
	var p Packet
	now := time.Time{}
	for _, a := range s.rules {
		if !a.Match(from.Name, to.Name) {
			continue
		}
		if now.IsZero() {
			now, p = time.Now(), look(from, to, b)
		}
		if a.Gate != nil && !a.Gate(p) {
			continue
		}
		a.apply(&f, way{from.Name, to.Name}, len(b), now, s.rng.Float64)
		if f.lost {
			return f
		}
	}
	return f
}

const protoUDP, protoTCP = 17, 6

func look(from, to *Port, b []byte) Packet {
	p := Packet{From: from.Name, To: to.Name, Size: len(b), UDP: b[9] == protoUDP}
	if head := int(b[0]&15) * 4; (p.UDP || b[9] == protoTCP) && len(b) >= head+4 {
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b[head:]), binary.BigEndian.Uint16(b[head+2:])
	}
	return p
}

// release sends what was held back when its time comes.
func (s *Switch) release() {
	defer s.wg.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := time.Hour
		s.mu.Lock()
		now := time.Now()
		var due []heldPacket
		for len(s.held) > 0 && !s.held[0].at.After(now) {
			due = append(due, heap.Pop(&s.held).(heldPacket))
		}
		if len(s.held) > 0 {
			next = s.held[0].at.Sub(now)
		}
		s.mu.Unlock()
		for _, p := range due {
			_, _ = p.to.tun.Write(p.b) // as above
		}
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.done:
			return
		}
	}
}

// Close ends the network. Processes in its namespaces lose it.
func (s *Switch) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	ports := s.ports
	s.mu.Unlock()
	close(s.done)
	var errs []error
	for _, p := range ports {
		errs = append(errs, p.close())
	}
	s.wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the network: %w", err)
	}
	return nil
}

// heldPackets is a heap by time, then by order.
type heldPackets []heldPacket

type heldPacket struct {
	at     time.Time
	serial int
	to     *Port
	b      []byte
}

func (h heldPackets) Len() int { return len(h) }
func (h heldPackets) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].serial < h[j].serial
	}
	return h[i].at.Before(h[j].at)
}
func (h heldPackets) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *heldPackets) Push(x any)   { *h = append(*h, x.(heldPacket)) }
func (h *heldPackets) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
