package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// vm interprets a filter as the kernel does. x/net/bpf loads big-endian words,
// so call writes its struct seccomp_data that way.
type vm struct{ *bpf.VM }

func newVM(t testing.TB, p Policy) vm {
	t.Helper()
	prog, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]bpf.RawInstruction, len(prog))
	for i, in := range prog {
		raw[i] = bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	ins, all := bpf.Disassemble(raw)
	if !all {
		t.Fatal("the filter has instructions that BPF does not know")
	}
	v, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	return vm{v}
}

func (v vm) call(t testing.TB, arch uint32, number int, args ...uint64) uint32 {
	t.Helper()
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[0:], uint32(number))
	binary.BigEndian.PutUint32(b[4:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[20+8*i:], uint32(a>>32))
	}
	r, err := v.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(r)
}

// expect is the policy read naively.
func expect(p Policy, number int, args [6]uint64) uint32 {
	r, ok := p.Rules[number]
	if !ok {
		if number > p.Last {
			return Errno(unix.ENOSYS)
		}
		return RetAllow
	}
	for _, c := range r.Checks {
		if c.IfMask != 0 && args[c.IfArg]&c.IfMask == 0 {
			continue
		}
		if uint32(args[c.Arg])&c.Mask == c.Value {
			return c.Ret
		}
	}
	return r.Default
}

// Every number, with arguments that touch every check from both sides.
func TestTaskPolicyDoesWhatItsTableSays(t *testing.T) {
	p := Task()
	v := newVM(t, p)
	for n := range 1200 {
		tries := [][6]uint64{{}, {^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
		for _, c := range p.Rules[n].Checks {
			var hit, miss, gated [6]uint64
			hit[c.Arg] = uint64(c.Value)
			if c.IfMask != 0 {
				hit[c.IfArg] |= c.IfMask & -c.IfMask
				gated[c.IfArg] = 1 << 63
			}
			gated[c.Arg] |= uint64(c.Value)
			miss[c.Arg] = uint64(c.Value ^ 1)
			high := hit
			high[c.Arg] |= 1 << 40
			tries = append(tries, hit, miss, gated, high)
		}
		for _, args := range tries {
			if got, want := v.call(t, p.Arch, n, args[:]...), expect(p, n, args); got != want {
				t.Errorf("call %d %x: %#x, want %#x", n, args, got, want)
			}
		}
	}
}

// A random table compiles to what it says.
func TestCompile(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ret := rapid.SampledFrom([]uint32{RetAllow, RetKill, Errno(unix.EPERM), Errno(unix.ENOSYS), Errno(0)})
		check := rapid.Custom(func(rt *rapid.T) Check {
			return Check{
				Arg: rapid.IntRange(0, 5).Draw(rt, "arg"), Mask: rapid.Uint32().Draw(rt, "mask"), Value: rapid.Uint32Range(0, 3).Draw(rt, "value"),
				IfArg: rapid.IntRange(0, 5).Draw(rt, "if"), IfMask: rapid.SampledFrom([]uint64{0, 1, 1 << 35, 5 << 31}).Draw(rt, "ifmask"), Ret: ret.Draw(rt, "ret"),
			}
		})
		rule := rapid.Custom(func(rt *rapid.T) Rule {
			return Rule{Checks: rapid.SliceOfN(check, 0, 4).Draw(rt, "checks"), Default: ret.Draw(rt, "default")}
		})
		last := rapid.IntRange(0, 600).Draw(rt, "last")
		p := Policy{Arch: arch, Last: last, Rules: rapid.MapOfN(rapid.IntRange(0, last), rule, 0, min(last, 200)).Draw(rt, "rules")}
		v := newVM(t, p)
		for range 50 {
			n := rapid.IntRange(0, 700).Draw(rt, "n")
			var args [6]uint64
			for i := range args {
				args[i] = rapid.OneOf(rapid.Uint64Range(0, 4), rapid.Uint64()).Draw(rt, "a")
			}
			if got, want := v.call(t, arch, n, args[:]...), expect(p, n, args); got != want {
				rt.Fatalf("call %d %x: %#x, want %#x", n, args, got, want)
			}
		}
	})
}

func TestForeignArchitecturesDie(t *testing.T) {
	v := newVM(t, Task())
	for _, a := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_PPC64, 0} {
		if got := v.call(t, a, 1); got != RetKill {
			t.Errorf("architecture %#x: %#x", a, got)
		}
	}
	for _, n := range []int{x32Bit, x32Bit | 1, -1} {
		if got := v.call(t, arch, n); got != RetKill {
			t.Errorf("number %#x: %#x", n, got)
		}
	}
}

// What must stay refused, whatever becomes of the table's shape.
func TestTaskPolicy(t *testing.T) {
	v := newVM(t, Task())
	eperm := Errno(unix.EPERM)
	for _, c := range []struct {
		what string
		n    int
		args []uint64
		want uint32
	}{
		{"read", unix.SYS_READ, nil, RetAllow},
		{"execve", unix.SYS_EXECVE, nil, RetAllow},
		{"mount", unix.SYS_MOUNT, nil, eperm},
		{"ptrace", unix.SYS_PTRACE, nil, eperm},
		{"bpf", unix.SYS_BPF, nil, eperm},
		{"clone3", unix.SYS_CLONE3, nil, Errno(unix.ENOSYS)},
		{"fork", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, RetAllow},
		{"thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND}, RetAllow},
		{"new user namespace", unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, eperm},
		{"new network", unix.SYS_CLONE, []uint64{unix.CLONE_NEWNET}, eperm},
		{"tcp", unix.SYS_SOCKET, []uint64{unix.AF_INET}, RetAllow},
		{"packet", unix.SYS_SOCKET, []uint64{unix.AF_PACKET}, Errno(unix.EAFNOSUPPORT)},
		{"sctp", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, Errno(unix.EPROTONOSUPPORT)},
		{"interfaces", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, RetAllow},
		{"netfilter", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, Errno(unix.EPROTONOSUPPORT)},
		{"mptcp", unix.SYS_SOCKET, []uint64{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, RetAllow},
		{"alg", unix.SYS_SOCKET, []uint64{unix.AF_ALG}, Errno(unix.EAFNOSUPPORT)},
		{"TIOCSTI", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, eperm},
		{"TIOCSTI with high bits", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI | 1<<32}, eperm},
		{"isatty", unix.SYS_IOCTL, []uint64{0, unix.TCGETS}, RetAllow},
		{"fifo", unix.SYS_MKNODAT, []uint64{0, 0, unix.S_IFIFO | 0o600}, RetAllow},
		{"device", unix.SYS_MKNODAT, []uint64{0, 0, unix.S_IFBLK | 0o600}, eperm},
		{"setuid", unix.SYS_FCHMODAT, []uint64{0, 0, 0o4755}, eperm},
		{"setgid", unix.SYS_FCHMOD, []uint64{0, 0o2755}, eperm},
		{"chmod", unix.SYS_FCHMODAT, []uint64{0, 0, 0o755}, RetAllow},
		{"sticky", unix.SYS_FCHMODAT, []uint64{0, 0, 0o1777}, RetAllow},
		{"create setuid", unix.SYS_OPENAT, []uint64{0, 0, unix.O_CREAT, 0o4755}, eperm},
		{"unnamed setuid", unix.SYS_OPENAT, []uint64{0, 0, unix.O_TMPFILE | unix.O_WRONLY, 0o4755}, eperm},
		{"open a folder with rubbish", unix.SYS_OPENAT, []uint64{0, 0, unix.O_DIRECTORY, 0o4755}, RetAllow},
		{"set core limit", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_CORE, 1 << 32}, Errno(0)},
		{"get core limit", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_CORE, 0}, RetAllow},
		{"set other limit", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_NOFILE, 8}, RetAllow},
		{"a call of the future", lastCall + 1, nil, Errno(unix.ENOSYS)},
	} {
		if got := v.call(t, arch, c.n, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, got, c.want)
		}
	}
}

// The search is balanced: no call walks a list.
func TestDepth(t *testing.T) {
	p := Task()
	prog, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0
	for n := range p.Last + 2 {
		steps := 0
		a := uint32(0)
		for pc := 0; ; steps++ {
			in := prog[pc]
			pc++
			if in.Code == ret {
				break
			}
			switch in.Code {
			case ldW:
				a = map[uint32]uint32{offNumber: uint32(n), offArch: p.Arch}[in.K]
			case and:
				a &= in.K
			case ja:
				pc += int(in.K)
			default:
				hit := in.Code == jeq && a == in.K || in.Code == jge && a >= in.K || in.Code == jset && a&in.K != 0
				if hit {
					pc += int(in.Jt)
				} else {
					pc += int(in.Jf)
				}
			}
		}
		worst = max(worst, steps)
	}
	if spans := len(spans(p)); worst > 60 {
		t.Errorf("a call takes %d instructions through %d ranges", worst, spans)
	}
	t.Logf("%d instructions, %d ranges, at most %d steps", len(prog), len(spans(p)), worst)
}

func TestTooLong(t *testing.T) {
	if _, err := Compile(Policy{Arch: arch, Last: 10, Rules: map[int]Rule{11: {}}}); err == nil {
		t.Error("a rule above Last was compiled")
	}
	p := Policy{Arch: arch, Last: 2000, Rules: map[int]Rule{}}
	for n := range 900 {
		p.Rules[2*n] = Rule{Checks: []Check{{Ret: RetKill}}, Default: RetAllow}
	}
	if _, err := Compile(p); err == nil {
		t.Error("a filter beyond the kernel's bound was compiled")
	}
}
