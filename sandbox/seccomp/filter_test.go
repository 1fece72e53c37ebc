package seccomp

import (
	"cmp"
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func compiled(t testing.TB, arch string) (Policy, []unix.SockFilter) {
	t.Helper()
	p, err := taskFor(arch)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return p, prog
}

// eachArch runs a test with the filter of every architecture.
func eachArch(t *testing.T, test func(t *testing.T, p Policy, v vm)) {
	for _, a := range architectures {
		t.Run(a.name, func(t *testing.T) {
			p, prog := compiled(t, a.name)
			test(t, p, newVM(t, prog))
		})
	}
}

// numbers are all that a call could have on a kernel of our time, and every
// border: of the table, of x32, of the sign.
func numbers() []int {
	out := []int{1 << 16, x32Bit - 1, math.MaxInt32, math.MinInt32, -1, -2, -x32Bit}
	for n := range 1024 {
		out = append(out, n, x32Bit|n, x32Bit<<1|n)
	}
	return out
}

// around are the arguments that lie on either side of every condition of a rule,
// in all combinations.
func around(r Rule) [][6]uint64 {
	var values [6]map[uint64]bool
	for i := range values {
		values[i] = map[uint64]bool{0: true}
	}
	for _, k := range r.Checks {
		for _, c := range k.All {
			v := values[c.Arg]
			v[^uint64(0)] = true
			v[c.Value] = true                // matches
			v[c.Value|^c.Mask] = true        // matches with every bit that must not matter
			v[c.Value|1<<32] = true          // the high half alone
			v[c.Value^c.Mask&-c.Mask] = true // differs in the lowest bit that counts
			v[c.Value^1<<63] = true
		}
	}
	out := [][6]uint64{{}}
	for arg, set := range values {
		var next [][6]uint64
		for _, args := range out {
			for v := range set {
				args[arg] = v
				next = append(next, args)
			}
		}
		out = next
	}
	return append(out, [6]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)})
}

// The compiled filter is the table: every number, every architecture, every
// side of every condition.
//
// guards P7
func TestFilterIsItsTable(t *testing.T) {
	eachArch(t, func(t *testing.T, p Policy, v vm) {
		runs := 0
		for _, n := range numbers() {
			for _, args := range around(p.Rules[n]) {
				runs++
				if got, want := v.call(t, p.Arch, n, args[:]...), expect(p, p.Arch, n, args); got != want {
					t.Fatalf("call %#x %x: %#x, want %#x", n, args, got, want)
				}
			}
		}
		t.Logf("%d calls", runs)
	})
}

// The test above must be able to see a wrong jump, a wrong constant and a wrong
// answer anywhere in the filter.
func TestFilterProofCanFail(t *testing.T) {
	p, prog := compiled(t, "amd64")
	type call struct {
		arch uint32
		n    int
		args [6]uint64
		want uint32
	}
	calls := []call{{arch: unix.AUDIT_ARCH_I386, want: RetKill}}
	named := slices.Collect(maps.Keys(p.Rules))
	slices.SortFunc(named, func(a, b int) int { // what notices most changes in the fewest calls first
		return cmp.Compare(len(p.Rules[a].Checks), len(p.Rules[b].Checks))
	})
	for _, n := range append(append(named, x32Bit, 600), numbers()...) {
		for _, args := range around(p.Rules[n]) {
			calls = append(calls, call{p.Arch, n, args, expect(p, p.Arch, n, args)})
		}
	}
	for i := range prog {
		bad := slices.Clone(prog)
		switch bad[i].Code {
		case ret:
			bad[i].K ^= RetAllow ^ retErrno
		case jeq, jge:
			bad[i].Jt, bad[i].Jf = bad[i].Jf, bad[i].Jt
		case and:
			bad[i].K = ^bad[i].K
		default:
			continue
		}
		// Where it parts two calls with the same rule, chmod and fchmod, both ways
		// are right.
		if k := int(prog[i].K); prog[i].Code == jge && k < x32Bit && len(p.Rules[k].Checks) > 0 && reflect.DeepEqual(p.Rules[k-1], p.Rules[k]) {
			continue
		}
		v := newVM(t, bad)
		if !slices.ContainsFunc(calls, func(c call) bool { return v.call(t, c.arch, c.n, c.args[:]...) != c.want }) {
			t.Errorf("instruction %d, %+v: changed to %+v and nothing noticed", i, prog[i], bad[i])
		}
	}
}

func TestForeignArchitecturesDie(t *testing.T) {
	foreign := []uint32{
		0, 1, math.MaxUint32, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_ARMEB, unix.AUDIT_ARCH_PPC64, unix.AUDIT_ARCH_PPC64LE,
		unix.AUDIT_ARCH_S390X, unix.AUDIT_ARCH_RISCV64, unix.AUDIT_ARCH_RISCV32, unix.AUDIT_ARCH_MIPS64, unix.AUDIT_ARCH_LOONGARCH64,
		unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_X86_64 ^ 0x80000000, unix.AUDIT_ARCH_X86_64 ^ 0x40000000,
	}
	eachArch(t, func(t *testing.T, p Policy, v vm) {
		for _, a := range foreign {
			if a == p.Arch {
				continue
			}
			for _, n := range numbers() {
				if got := v.call(t, a, n); got != RetKill {
					t.Fatalf("architecture %#x, call %#x: %#x", a, n, got)
				}
			}
		}
	})
}

// A random table compiles to what it says.
func TestCompile(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ret := rapid.SampledFrom([]uint32{RetAllow, RetKill, Errno(unix.EPERM), Errno(unix.ENOSYS), Errno(0)})
		cond := rapid.Custom(func(rt *rapid.T) Cond {
			mask := rapid.SampledFrom([]uint64{low, ^uint64(0), 3, 1 << 35, 5 << 31, low << 32}).Draw(rt, "mask")
			value := rapid.OneOf(rapid.Uint64Range(0, 3), rapid.Uint64()).Draw(rt, "value")
			return Cond{Arg: rapid.IntRange(0, 5).Draw(rt, "arg"), Mask: mask, Value: value & mask, Not: rapid.Bool().Draw(rt, "not")}
		})
		check := rapid.Custom(func(rt *rapid.T) Check {
			return Check{All: rapid.SliceOfN(cond, 1, 3).Draw(rt, "all"), Ret: ret.Draw(rt, "ret")}
		})
		rule := rapid.Custom(func(rt *rapid.T) Rule {
			return Rule{Checks: rapid.SliceOfN(check, 0, 4).Draw(rt, "checks"), Default: ret.Draw(rt, "default")}
		})
		arch := rapid.SampledFrom([]uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64}).Draw(rt, "arch")
		rules := rapid.MapOfN(rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 1000)), rule, 0, 60).Draw(rt, "rules")
		p := Policy{Arch: arch, Default: ret.Draw(rt, "default"), Rules: rules}
		prog, err := Compile(p)
		if err != nil {
			rt.Fatal(err)
		}
		v := newVM(t, prog)
		try := func(n int, args [6]uint64) {
			if got, want := v.call(t, arch, n, args[:]...), expect(p, arch, n, args); got != want {
				rt.Fatalf("call %d %x: %#x, want %#x", n, args, got, want)
			}
		}
		var some [8][6]uint64
		for i := range some {
			for j := range some[i] {
				some[i][j] = rapid.OneOf(rapid.Uint64Range(0, 4), rapid.Uint64()).Draw(rt, "a")
			}
		}
		for n := range 1010 {
			args := some[n%len(some)]
			try(n, args)
			r := rules[n]
			if len(r.Checks) == 0 {
				continue
			}
			for _, k := range r.Checks { // what satisfies each condition alone, and together
				for _, c := range k.All {
					args[c.Arg] = args[c.Arg]&^c.Mask | c.Value
					try(n, args)
				}
			}
		}
	})
}

// The search is balanced: no call walks a list.
func TestDepth(t *testing.T) {
	for _, a := range architectures {
		p, prog := compiled(t, a.name)
		naive := linear(t, p)
		worst, sum, worstNaive, sumNaive := 0, 0, 0, 0
		for n := range p.Rules {
			s, l := steps(prog, p.Arch, n), steps(naive, p.Arch, n)
			worst, sum = max(worst, s), sum+s
			worstNaive, sumNaive = max(worstNaive, l), sumNaive+l
		}
		if worst > 40 {
			t.Errorf("%s: a call takes %d instructions", a.name, worst)
		}
		t.Logf("%s: %d calls, %d ranges; tree %d instructions, mean %d and at most %d steps; list %d instructions, mean %d and at most %d steps",
			a.name, len(p.Rules), len(spans(p)), len(prog), sum/len(p.Rules), worst, len(naive), sumNaive/len(p.Rules), worstNaive)
	}
}

func TestBadPolicies(t *testing.T) {
	for name, r := range map[string]Rule{
		"no condition":   {Checks: []Check{{Ret: RetKill}}},
		"never true":     {Checks: []Check{when(RetKill, is(0, 1, 2))}},
		"always true":    {Checks: []Check{when(RetKill, is(0, 0, 0))}},
		"no argument":    {Checks: []Check{when(RetKill, is(6, 1, 1))}},
		"too long a hop": {Checks: []Check{{All: make([]Cond, 100), Ret: RetKill}}},
	} {
		for i := range r.Checks[0].All {
			if c := &r.Checks[0].All[i]; name == "too long a hop" {
				*c = is(0, ^uint64(1), 2)
			}
		}
		if _, err := Compile(Policy{Rules: map[int]Rule{1: r}}); err == nil {
			t.Errorf("%s: was compiled", name)
		}
	}
	for _, n := range []int{-1, x32Bit} {
		if _, err := Compile(Policy{Rules: map[int]Rule{n: {}}}); err == nil {
			t.Errorf("a rule for call %d was compiled", n)
		}
	}
	p := Policy{Rules: map[int]Rule{}}
	for n := range 900 {
		p.Rules[2*n] = Rule{Checks: []Check{when(RetKill, is(0, 1, 1))}, Default: RetAllow}
	}
	if _, err := Compile(p); err == nil {
		t.Error("a filter beyond the kernel's bound was compiled")
	}
}
