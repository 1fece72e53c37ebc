// Package seccomp compiles a table of system calls into a BPF filter.
//
// The naive filter compares the call's number with every rule in turn: 300
// rules cost each call some 370 µs at installation and a walk at every call.
// This one sorts the numbers into ranges of equal treatment and searches them
// as a balanced tree; calls whose arguments matter jump to a short tail.
//
// A call of a foreign architecture (ia32, x32) kills the process: its numbers
// mean other calls. Numbers beyond the newest call that the table knows return
// ENOSYS, so that programs fall back to what they did before that call existed.
//
// The package is pure: a table in, instructions out.
package seccomp

import (
	"fmt"
	"sort"

	"golang.org/x/sys/unix"
)

// Return values of a filter.
const (
	RetAllow = 0x7fff0000
	RetKill  = 0x80000000
	retErrno = 0x00050000
)

// Errno is the return value that makes a call fail with e. Errno(0) makes it
// do nothing and succeed.
func Errno(e unix.Errno) uint32 { return retErrno | uint32(e)&0xffff }

// Check looks at the low half of one argument: if (arg & Mask) == Value the
// call gets Ret. With IfMask set, it applies only if (args[IfArg] & IfMask) != 0,
// on all 64 bits.
type Check struct {
	Arg         int
	Mask, Value uint32
	IfArg       int
	IfMask      uint64
	Ret         uint32
}

// Rule is what happens to one call: the first Check that matches, else Default.
type Rule struct {
	Checks  []Check
	Default uint32
}

// Policy is a whole table. Calls up to Last that it does not name are allowed.
type Policy struct {
	Arch  uint32 // AUDIT_ARCH_*
	Last  int    // the newest call known, no rule is above it; later ones return ENOSYS
	Rules map[int]Rule
}

const (
	ldW  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	and  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jge  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	jset = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	ja   = unix.BPF_JMP | unix.BPF_JA
	ret  = unix.BPF_RET | unix.BPF_K

	offNumber, offArch, offArgs = 0, 4, 16 // in struct seccomp_data

	x32Bit = 0x40000000
	// maxInstructions is the kernel's BPF_MAXINSNS.
	maxInstructions = 4096
)

func ins(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

// span is a range of numbers, [lo, next span's lo), that are treated alike.
type span struct {
	lo   int
	ret  uint32
	tail int // number of the call whose tail decides; -1 is none
}

// Compile returns the filter.
func Compile(p Policy) ([]unix.SockFilter, error) {
	for n := range p.Rules {
		if n < 0 || n > p.Last {
			return nil, fmt.Errorf("seccomp rule for call %d, which is not in 0 to %d", n, p.Last)
		}
	}
	prog := []unix.SockFilter{
		ins(ldW, offArch),
		{Code: jeq, K: p.Arch, Jt: 1},
		ins(ret, RetKill),
		ins(ldW, offNumber),
		{Code: jge, K: x32Bit, Jf: 1},
		ins(ret, RetKill),
	}
	c := &compiler{prog: prog, spans: spans(p), rules: p.Rules, tails: map[int]int{}}
	if err := c.tree(0, len(c.spans)); err != nil {
		return nil, err
	}
	for _, f := range c.fix {
		at, ok := c.tails[f.call]
		if !ok {
			at = len(c.prog)
			c.tails[f.call] = at
			c.tail(p.Rules[f.call])
		}
		c.prog[f.at].K = uint32(at - f.at - 1)
	}
	if len(c.prog) > maxInstructions {
		return nil, fmt.Errorf("seccomp filter has %d instructions, at most %d", len(c.prog), maxInstructions)
	}
	return c.prog, nil
}

func spans(p Policy) []span {
	out := []span{{lo: 0, ret: RetAllow, tail: -1}}
	add := func(lo int, ret uint32, tail int) {
		last := &out[len(out)-1]
		switch {
		case last.lo == lo:
			last.ret, last.tail = ret, tail
		case tail >= 0 || last.tail >= 0 || last.ret != ret:
			out = append(out, span{lo: lo, ret: ret, tail: tail})
		}
	}
	numbers := make([]int, 0, len(p.Rules))
	for n := range p.Rules {
		numbers = append(numbers, n)
	}
	sort.Ints(numbers)
	next := 0
	for _, n := range numbers {
		if n > next {
			add(next, RetAllow, -1)
		}
		if r := p.Rules[n]; len(r.Checks) > 0 {
			add(n, 0, n)
		} else {
			add(n, r.Default, -1)
		}
		next = n + 1
	}
	if next <= p.Last {
		add(next, RetAllow, -1)
	}
	add(max(next, p.Last+1), Errno(unix.ENOSYS), -1)
	return out
}

type fixup struct{ at, call int }

type compiler struct {
	prog  []unix.SockFilter
	spans []span
	rules map[int]Rule
	fix   []fixup
	tails map[int]int
}

// tree emits a binary search over spans[lo:hi].
func (c *compiler) tree(lo, hi int) error {
	if hi-lo == 1 {
		if s := c.spans[lo]; s.tail >= 0 {
			c.fix = append(c.fix, fixup{len(c.prog), s.tail})
			c.prog = append(c.prog, ins(ja, 0))
		} else {
			c.prog = append(c.prog, ins(ret, s.ret))
		}
		return nil
	}
	mid := (lo + hi) / 2
	at := len(c.prog)
	// A conditional jump reaches 255 instructions; a long one goes through ja.
	c.prog = append(c.prog, unix.SockFilter{Code: jge, K: uint32(c.spans[mid].lo), Jf: 1}, ins(ja, 0))
	if err := c.tree(lo, mid); err != nil {
		return err
	}
	c.prog[at+1].K = uint32(len(c.prog) - at - 2)
	return c.tree(mid, hi)
}

func (c *compiler) tail(r Rule) {
	low := func(n int) unix.SockFilter { return ins(ldW, uint32(offArgs+8*n)) } // little endian: low half first
	high := func(n int) unix.SockFilter { return ins(ldW, uint32(offArgs+8*n+4)) }
	for _, k := range r.Checks {
		if k.IfMask != 0 {
			c.prog = append(c.prog,
				low(k.IfArg), unix.SockFilter{Code: jset, K: uint32(k.IfMask), Jt: 2},
				high(k.IfArg), unix.SockFilter{Code: jset, K: uint32(k.IfMask >> 32), Jf: 4})
		}
		c.prog = append(c.prog, low(k.Arg), ins(and, k.Mask), unix.SockFilter{Code: jeq, K: k.Value, Jf: 1}, ins(ret, k.Ret))
	}
	c.prog = append(c.prog, ins(ret, r.Default))
}
