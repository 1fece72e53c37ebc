package seccomp

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	moby "github.com/moby/profiles/seccomp"
)

func table(t testing.TB) []entry {
	t.Helper()
	list, err := parseTable(callsText)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Every number of the table is that of the kernel's headers, on both
// architectures, and no call that x/sys knows is missing: a new release of it
// makes somebody decide.
func TestTableHasEveryCall(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "golang.org/x/sys/unix").Output()
	if err != nil {
		t.Fatalf("find the sources of x/sys: %v", err)
	}
	line := regexp.MustCompile(`(?m)^\tSYS_(\w+)\s+= (\d+)$`)
	for _, a := range architectures {
		src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "zsysnum_linux_"+a.name+".go"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{}
		for _, m := range line.FindAllStringSubmatch(string(src), -1) {
			want[strings.ToLower(m[1])], _ = strconv.Atoi(m[2])
		}
		delete(want, "arch_specific_syscall") // where a range begins
		if len(want) < 300 {
			t.Fatalf("%s: found only %d calls", a.name, len(want))
		}
		for _, e := range table(t) {
			n, ok := want[e.name]
			if !ok {
				n = -1
			}
			if e.numbers[a.column] != n {
				t.Errorf("%s: %s is %d in the table and %d in x/sys", a.name, e.name, e.numbers[a.column], n)
			}
			delete(want, e.name)
		}
		for name, n := range want {
			t.Errorf("%s: the table has no %s (%d): decide about it", a.name, name, n)
		}
	}
}

// mobyAllows returns what Moby's default profile lets a container without any
// capability call, perhaps with some arguments only.
func mobyAllows(arch string) map[string]bool {
	out := map[string]bool{}
	for _, s := range moby.DefaultProfile().Syscalls {
		if s.Action != "SCMP_ACT_ALLOW" {
			continue
		}
		if in := s.Includes; in != nil && (len(in.Caps) > 0 || len(in.Arches) > 0 && !slices.Contains(in.Arches, arch)) {
			continue
		}
		if ex := s.Excludes; ex != nil && slices.Contains(ex.Arches, arch) {
			continue
		}
		for _, name := range s.Names {
			out[name] = true
		}
	}
	return out
}

// The second opinion: what Docker's containers have lived with for years.
// Every difference is named here, with its reason in the table.
func TestTableAgainstMoby(t *testing.T) {
	refused := strings.Fields(`
		adjtimex clock_adjtime
		epoll_ctl_old epoll_wait_old get_thread_area set_thread_area
		fanotify_mark name_to_handle_at
		io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit
		listmount statmount
		memfd_secret
		modify_ldt
		openat2
		process_mrelease
		process_vm_readv process_vm_writev ptrace`)
	added := strings.Fields(`uprobe`)
	for _, a := range architectures {
		theirs := mobyAllows(a.name)
		if len(theirs) < 300 {
			t.Fatalf("Moby allows only %d calls: its profile was misread", len(theirs))
		}
		for _, e := range table(t) {
			if e.numbers[a.column] < 0 {
				continue
			}
			ours := e.act == actAllow || e.act == actRule
			switch {
			case ours && !theirs[e.name] && !slices.Contains(added, e.name):
				t.Errorf("%s: %s is allowed here and not by Moby", a.name, e.name)
			case !ours && theirs[e.name] && !slices.Contains(refused, e.name):
				t.Errorf("%s: %s is refused here and allowed by Moby", a.name, e.name)
			case ours && slices.Contains(refused, e.name), !ours && slices.Contains(added, e.name):
				t.Errorf("%s: %s is no difference any more", a.name, e.name)
			}
		}
	}
}

// No rule is there for nothing, and none is missing for any architecture.
func TestEveryRuleIsUsed(t *testing.T) {
	rules := taskRules()
	for _, e := range table(t) {
		if e.act == actRule {
			if len(rules[e.name].Checks) == 0 {
				t.Errorf("%s has a rule that looks at nothing", e.name)
			}
			delete(rules, e.name)
		}
	}
	for name := range rules {
		t.Errorf("the table does not ask for the rule of %s", name)
	}
	if _, err := build([]entry{{name: "x", act: actRule}}, rules, architectures[0]); err == nil {
		t.Error("a call without its rule was accepted")
	}
	if _, err := taskFor("mips"); err == nil {
		t.Error("an architecture without numbers was accepted")
	}
}

func TestBadTables(t *testing.T) {
	for _, text := range []string{
		"read 0 63", "[allow]\nread 0", "[allow]\nread x 63", "[allow]\nread -1 63", "[sometimes]",
		"[allow]\nread 0 63\nread 1 64", "[allow]\nread 0 63\n[eperm]\nwrite 0 64", "[allow]\nread 0 63\nwrite 1 63",
	} {
		if list, err := parseTable(text); err == nil {
			t.Errorf("%q was read as %v", text, list)
		}
	}
}

func Example() {
	p := Policy{Arch: 1, Default: Errno(38), Rules: map[int]Rule{
		7: {Default: RetAllow},
		8: {Default: RetAllow},
		9: {Checks: []Check{when(RetAllow, is(0, low, 2))}, Default: Errno(1)},
	}}
	prog, _ := Compile(p)
	for i, in := range prog {
		fmt.Printf("%2d %02x %d %d %#x\n", i, in.Code, in.Jt, in.Jf, in.K)
	}
	// Output:
	//  0 20 0 0 0x4
	//  1 15 1 0 0x1
	//  2 06 0 0 0x80000000
	//  3 20 0 0 0x0
	//  4 35 0 1 0x40000000
	//  5 06 0 0 0x80000000
	//  6 35 3 0 0x9
	//  7 35 1 0 0x7
	//  8 06 0 0 0x50026
	//  9 06 0 0 0x7fff0000
	// 10 35 1 0 0xa
	// 11 05 0 0 0x1
	// 12 06 0 0 0x50026
	// 13 20 0 0 0x10
	// 14 15 0 1 0x2
	// 15 06 0 0 0x7fff0000
	// 16 06 0 0 0x50001
}
