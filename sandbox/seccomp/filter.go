package seccomp

import (
	"errors"
	"fmt"
	"maps"
	"slices"

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

// Cond holds if (args[Arg] & Mask) == Value, on all 64 bits; with Not, if it
// differs.
type Cond struct {
	Arg         int
	Mask, Value uint64
	Not         bool
}

// Check gives the call Ret when all conditions hold.
type Check struct {
	All []Cond
	Ret uint32
}

// Rule is what happens to one call: the first Check that matches, else Default.
type Rule struct {
	Checks  []Check
	Default uint32
}

// Policy is a whole table. Every number that it does not name gets Default.
type Policy struct {
	Arch    uint32 // AUDIT_ARCH_*
	Rules   map[int]Rule
	Default uint32
}

const (
	ldW = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	and = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jeq = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jge = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	ja  = unix.BPF_JMP | unix.BPF_JA
	ret = unix.BPF_RET | unix.BPF_K

	offNumber, offArch, offArgs = 0, 4, 16 // in struct seccomp_data

	// x32Bit marks the calls of x32: the same architecture by its name, with
	// other numbers.
	x32Bit = 0x40000000
	// maxInstructions is the kernel's BPF_MAXINSNS.
	maxInstructions = 4096
	// maxJump is how far a conditional jump reaches.
	maxJump = 255
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
	for n, r := range p.Rules {
		if n < 0 || n >= x32Bit {
			return nil, fmt.Errorf("seccomp rule for call %d, which is no number of a call", n)
		}
		for _, k := range r.Checks {
			if err := k.valid(); err != nil {
				return nil, fmt.Errorf("seccomp rule for call %d: %w", n, err)
			}
		}
	}
	c := &compiler{spans: spans(p), prog: []unix.SockFilter{
		ins(ldW, offArch),
		{Code: jeq, K: p.Arch, Jt: 1},
		ins(ret, RetKill),
		ins(ldW, offNumber),
		{Code: jge, K: x32Bit, Jf: 1},
		ins(ret, RetKill),
	}}
	c.tree(0, len(c.spans))
	for _, f := range c.fix {
		c.prog[f.at].K = uint32(len(c.prog) - f.at - 1)
		if err := c.tail(p.Rules[f.call]); err != nil {
			return nil, fmt.Errorf("seccomp rule for call %d: %w", f.call, err)
		}
	}
	if len(c.prog) > maxInstructions {
		return nil, fmt.Errorf("seccomp filter has %d instructions, at most %d", len(c.prog), maxInstructions)
	}
	return c.prog, nil
}

// valid refuses what a table cannot mean.
func (k Check) valid() error {
	if len(k.All) == 0 {
		return errors.New("a check without a condition hides what follows")
	}
	for _, c := range k.All {
		if c.Arg < 0 || c.Arg > 5 || c.Mask == 0 || c.Value&^c.Mask != 0 {
			return fmt.Errorf("condition %+v is always true or never, or of no argument", c)
		}
	}
	return nil
}

// spans are sorted, the first begins at 0, and neighbours differ.
func spans(p Policy) []span {
	out := []span{{lo: 0, ret: p.Default, tail: -1}}
	add := func(s span) {
		last := &out[len(out)-1]
		switch {
		case last.lo == s.lo:
			*last = s
		case s.tail >= 0 || last.tail >= 0 || last.ret != s.ret:
			out = append(out, s)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(p.Rules)) {
		if r := p.Rules[n]; len(r.Checks) > 0 {
			add(span{lo: n, tail: n})
		} else {
			add(span{lo: n, ret: r.Default, tail: -1})
		}
		if _, named := p.Rules[n+1]; !named {
			add(span{lo: n + 1, ret: p.Default, tail: -1})
		}
	}
	return out
}

type fixup struct{ at, call int }

type compiler struct {
	prog  []unix.SockFilter
	spans []span
	fix   []fixup // leaves that jump to the tail of a call
}

// size is the number of instructions of the search in spans[lo:hi].
func (c *compiler) size(lo, hi int) int {
	if hi-lo == 1 {
		return 1
	}
	mid := (lo + hi) / 2
	left := c.size(lo, mid)
	n := 1 + left + c.size(mid, hi)
	if left > maxJump {
		n++
	}
	return n
}

// tree emits a binary search in spans[lo:hi].
func (c *compiler) tree(lo, hi int) {
	if hi-lo == 1 {
		s := c.spans[lo]
		if s.tail >= 0 {
			c.fix = append(c.fix, fixup{len(c.prog), s.tail})
			c.prog = append(c.prog, ins(ja, 0))
		} else {
			c.prog = append(c.prog, ins(ret, s.ret))
		}
		return
	}
	mid := (lo + hi) / 2
	branch := unix.SockFilter{Code: jge, K: uint32(c.spans[mid].lo)}
	if left := c.size(lo, mid); left <= maxJump {
		branch.Jt = uint8(left)
		c.prog = append(c.prog, branch)
	} else {
		branch.Jf = 1
		c.prog = append(c.prog, branch, ins(ja, uint32(left)))
	}
	c.tree(lo, mid)
	c.tree(mid, hi)
}

// tail emits the checks of a rule, one after the other.
func (c *compiler) tail(r Rule) error {
	var loaded *Cond // what the accumulator holds wherever this check may begin
	for _, k := range r.Checks {
		var fails []int // jumps to the next check, by their no or their yes
		for i, cond := range k.All {
			skip := i == 0 && loaded != nil && loaded.Arg == cond.Arg && loaded.Mask == cond.Mask
			fails = append(fails, c.cond(cond, skip)...)
		}
		c.prog = append(c.prog, ins(ret, k.Ret))
		for _, at := range fails {
			far := len(c.prog) - at - 1
			if far > maxJump {
				return errors.New("a check has too many conditions")
			}
			if in := &c.prog[at]; in.Jt == pending {
				in.Jt = uint8(far)
			} else {
				in.Jf = uint8(far)
			}
		}
		loaded = nil
		if first := k.All[0]; len(k.All) == 1 && first.Mask>>32 == 0 {
			loaded = &first
		}
	}
	c.prog = append(c.prog, ins(ret, r.Default))
	return nil
}

// pending marks the end of a jump that is not known yet.
const pending = 255

// cond emits one condition and returns its jumps that mean no.
func (c *compiler) cond(k Cond, loaded bool) (fails []int) {
	var halves []uint32 // offsets: little endian, the low half comes first
	if k.Mask&low != 0 {
		halves = append(halves, 0)
	}
	if k.Mask>>32 != 0 {
		halves = append(halves, 4)
	}
	var yes []int
	for i, off := range halves {
		mask, value := uint32(k.Mask>>(8*off)), uint32(k.Value>>(8*off))
		if !loaded {
			c.prog = append(c.prog, ins(ldW, uint32(offArgs+8*k.Arg)+off))
			if mask != low {
				c.prog = append(c.prog, ins(and, mask))
			}
		}
		in := unix.SockFilter{Code: jeq, K: value}
		switch last := i == len(halves)-1; {
		case !k.Not:
			in.Jf = pending
		case last:
			in.Jt = pending
		default: // the halves differ here: that is enough
			yes = append(yes, len(c.prog))
		}
		if in.Jf == pending || in.Jt == pending {
			fails = append(fails, len(c.prog))
		}
		c.prog = append(c.prog, in)
	}
	for _, at := range yes {
		c.prog[at].Jf = uint8(len(c.prog) - at - 1)
	}
	return fails
}
