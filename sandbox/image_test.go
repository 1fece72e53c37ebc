package sandbox

import (
	"bytes"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"holdfast/sandbox/seccomp"
)

// receiveTask puts a message into an image as recvmsg would.
func receiveTask(im *image, msg []byte) uintptr {
	return uintptr(copy(im.msg[:], msg))
}

// cString reads the string at an address within the message.
func cString(im *image, at uintptr) string {
	off := at - uintptr(unsafe.Pointer(&im.msg))
	rest := im.msg[off:]
	return string(rest[:bytes.IndexByte(rest, 0)])
}

func testImage(t testing.TB) *image {
	im, err := newImage()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(im)), unsafe.Sizeof(*im))); err != nil {
			t.Error(err)
		}
	})
	return im
}

// What the node encodes is what the init reads.
func TestInitReadsTask(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`[a-z/= ]{0,40}`)
		s := Spec{Command: append([]string{"p"}, rapid.SliceOfN(text, 0, 60).Draw(rt, "args")...), WorkDir: "/work"}
		for _, v := range rapid.SliceOfN(text, 0, 60).Draw(rt, "env") {
			s.Env = append(s.Env, "K="+v)
		}
		msg, err := encodeTask(s, false)
		if err != nil {
			rt.Fatal(err)
		}
		im := testImage(t)
		if !parse(im, receiveTask(im, msg)) {
			rt.Fatal("the init refuses the message")
		}
		list := func(addrs []uintptr) (out []string) {
			for _, a := range addrs {
				if a == 0 {
					break
				}
				out = append(out, cString(im, a))
			}
			return out
		}
		for _, c := range []struct {
			got  []uintptr
			want []string
		}{{im.cands[:], candidates("p", s.Env)}, {im.argv[:], s.Command}, {im.envv[:], s.Env}} {
			if got := list(c.got); !slices.Equal(got, c.want) {
				rt.Fatalf("got %q, want %q", got, c.want)
			}
		}
		if dir := cString(im, uintptr(unsafe.Pointer(&im.msg[taskHead]))); dir != "/work" {
			rt.Fatalf("work folder %q", dir)
		}
	})
}

// A message that is cut or damaged is refused, and never read beyond its end.
func FuzzParse(f *testing.F) {
	msg, err := encodeTask(Spec{Command: []string{"a", "b"}, Env: []string{"K=v"}, WorkDir: "/w"}, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg)
	f.Add(msg[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		im := testImage(t)
		n := receiveTask(im, b)
		if !parse(im, n) {
			return
		}
		end := uintptr(unsafe.Pointer(&im.msg)) + n
		for _, list := range [][]uintptr{im.cands[:], im.argv[:], im.envv[:]} {
			for _, a := range list {
				if a != 0 && a >= end {
					t.Fatal("a string lies beyond the message")
				}
			}
		}
	})
}

func testScript(t *testing.T, req request) ([]string, error) {
	policy, err := seccomp.Task()
	if err != nil {
		t.Fatal(err)
	}
	filter, err := seccomp.Compile(policy)
	if err != nil {
		t.Fatal(err)
	}
	l := &launcher{im: testImage(t), filter: filter, lastCap: 40, ignored: []int{17}, landlock: 7, limits: taskLimits(),
		base: base{dirs: []string{"/usr", "/etc", "/dev"}, links: map[string]string{"/bin": "usr/bin"}, masks: []string{"/proc/kcore"}, voids: []string{"/proc/acpi"}}}
	return l.write(req, make([]int, 1+numStreams+req.Cgroups+len(req.Mounts)))
}

// The order in which walls go up matters.
func TestScriptOrder(t *testing.T) {
	names, err := testScript(t, request{UID: 7, Cgroups: 2, TmpBytes: 1 << 20, Mounts: []mountTarget{{Target: "/data", Dir: true, Writable: true}}})
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, want := range []string{
		"keep the socket", "die with the launcher", "enter the cgroup", "unshare the cgroup namespace", "mount the root", "mount proc",
		"mount /tmp", "attach the grant at /data", "pivot", "drop the old root", "make the root read-only", "bring lo up", "set user",
		"unshare the user namespace", "forbid user namespaces below", "drop capabilities", "be undumpable", "set no_new_privs",
		"allow changes in /data", "enforce the Landlock rules", "take the command's streams", "close everything else", "install the seccomp filter",
	} {
		at := slices.Index(names[last+1:], want)
		if at < 0 {
			t.Fatalf("%q is not after %q in %q", want, names[max(last, 0)], names)
		}
		last += 1 + at
	}
	if last != len(names)-1 {
		t.Errorf("%q come after the last wall", names[last+1:])
	}
}

func TestScriptDoesNotOverflow(t *testing.T) {
	req := request{UID: 7}
	for range 3000 {
		req.Mounts = append(req.Mounts, mountTarget{Target: "/x", Dir: true})
	}
	if _, err := testScript(t, req); err == nil {
		t.Error("a script beyond its image was accepted")
	}
	s := newScript(testImage(t), 0, thenTask)
	if s.bytes(make([]byte, dataSize)); !s.full {
		t.Error("data beyond the image was accepted")
	}
}

// The descriptor of the Landlock rules never takes the place of another.
func TestRuleFD(t *testing.T) {
	for _, c := range []struct {
		given []int
		want  int
	}{{[]int{5, 6, 7}, fewRuleFD}, {[]int{5, 70, 7}, manyRuleFD}, {[]int{fewRuleFD - scriptFDs}, manyRuleFD}} {
		if got := ruleFD(c.given); got != c.want {
			t.Errorf("%d beside %v, want %d", got, c.given, c.want)
		}
	}
}
