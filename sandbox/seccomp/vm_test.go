package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// vm interprets a filter as the kernel does. x/net/bpf loads big-endian words,
// so call writes its struct seccomp_data that way.
type vm struct {
	*bpf.VM
	buf []byte
}

func newVM(t testing.TB, prog []unix.SockFilter) vm {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(prog))
	for i, in := range prog {
		raw[i] = bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	ins, all := bpf.Disassemble(raw)
	if !all {
		t.Fatal("the filter has instructions that BPF does not know")
	}
	v, err := bpf.NewVM(ins) // checks that every jump lands
	if err != nil {
		t.Fatal(err)
	}
	return vm{v, make([]byte, 64)}
}

func (v vm) call(t testing.TB, arch uint32, number int, args ...uint64) uint32 {
	t.Helper()
	clear(v.buf)
	binary.BigEndian.PutUint32(v.buf[0:], uint32(number))
	binary.BigEndian.PutUint32(v.buf[4:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(v.buf[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(v.buf[20+8*i:], uint32(a>>32))
	}
	r, err := v.Run(v.buf)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(r)
}

// steps counts the instructions that a call takes, with all arguments zero.
func steps(prog []unix.SockFilter, arch uint32, number int) int {
	n, a := 0, uint32(0)
	for pc := 0; ; {
		in := prog[pc]
		pc++
		n++
		hit := false
		switch in.Code {
		case ret:
			return n
		case ldW:
			a = map[uint32]uint32{offNumber: uint32(number), offArch: arch}[in.K]
			continue
		case and:
			a &= in.K
			continue
		case ja:
			pc += int(in.K)
			continue
		case jeq:
			hit = a == in.K
		case jge:
			hit = a >= in.K
		}
		if hit {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
}

// expect is the policy read naively.
func expect(p Policy, arch uint32, number int, args [6]uint64) uint32 {
	if arch != p.Arch || uint32(number) >= x32Bit {
		return RetKill
	}
	r, ok := p.Rules[number]
	if !ok {
		return p.Default
	}
	for _, k := range r.Checks {
		all := true
		for _, c := range k.All {
			if (args[c.Arg]&c.Mask == c.Value) == c.Not {
				all = false
			}
		}
		if all {
			return k.Ret
		}
	}
	return r.Default
}

// linear is the naive filter for the same policy, to compare with: it compares
// the number with every call that is named.
func linear(t testing.TB, p Policy) []unix.SockFilter {
	t.Helper()
	c := &compiler{prog: []unix.SockFilter{
		ins(ldW, offArch), {Code: jeq, K: p.Arch, Jt: 1}, ins(ret, RetKill),
		ins(ldW, offNumber), {Code: jge, K: x32Bit, Jf: 1}, ins(ret, RetKill),
	}}
	for n := range 1024 {
		r, ok := p.Rules[n]
		if !ok {
			continue
		}
		at := len(c.prog)
		c.prog = append(c.prog, unix.SockFilter{Code: jeq, K: uint32(n)})
		if err := c.tail(r); err != nil {
			t.Fatal(err)
		}
		c.prog[at].Jf = uint8(len(c.prog) - at - 1)
	}
	c.prog = append(c.prog, ins(ret, p.Default))
	return c.prog
}
