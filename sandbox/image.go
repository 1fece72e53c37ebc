package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of an image. A plain sandbox takes about 200 steps; 64 grants with the
// deepest and longest targets some 1,500 and half a MiB of strings.
const (
	maxSteps = 2048
	dataSize = 1 << 20
	msgSize  = 192 << 10 // a task message: 96 KiB of strings and candidates for PATH
	numRegs  = 8
)

// step is one system call of a script. args[i] is a plain value, or the result
// of an earlier step when regs[i] is its register.
type step struct {
	trap uintptr
	args [6]uintptr
	regs [6]uint8
	out  uint8 // register for the result; 0 is none
	soft bool  // go on after an error
	id   uint16
}

// image is all the memory that a forked init touches. It is mapped outside the
// Go heap and holds addresses as plain numbers: a store of a Go pointer would
// run the garbage collector's write barrier, and the child of a raw fork has no
// garbage collector to talk to.
type image struct {
	// The script. A child reads it and leaves it alone, so that all of them
	// share its pages.
	then   uintptr // what follows the steps
	nsteps uintptr
	steps  [maxSteps]step
	nodata uintptr
	data   [dataSize]byte

	clone cloneArgs

	// What follows is written by the init.
	initStack [stackSize]byte
	tls       [2 * tlsOffset]byte
	regs      [numRegs]uintptr
	pidfd     int32    // also by clone3 in the launcher
	control   [64]byte // 16 bytes of header and a descriptor
	iov       [2]uintptr
	hdr       msghdr
	report    report
	status    int32
	usage     [18]int64 // struct rusage

	// What follows is written by the command's process, which shares the init's
	// memory until it executes the command.
	stack   [stackSize]byte
	failure [2]int32 // stage and errno
	ready   report
	cands   [maxCandidates + 1]uintptr
	argv    [maxCommand + 1]uintptr
	envv    [maxEnv + 1]uintptr
	msg     [msgSize]byte
}

// stackSize is enough for any chain of nosplit functions: the linker refuses
// programs with one of more than 800 bytes.
const stackSize = 4096

// msghdr is the kernel's struct msghdr with addresses as numbers.
type msghdr struct {
	name       uintptr
	namelen    uint32
	_          uint32
	iov        uintptr
	iovlen     uintptr
	control    uintptr
	controllen uintptr
	flags      int32
	_          int32
}

// newImage maps an image. Pages are private: a child's writes stay its own.
func newImage() (*image, error) {
	mem, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(image{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map memory for sandboxes: %w", err)
	}
	im := (*image)(unsafe.Pointer(&mem[0]))
	im.ready.Kind = reportReady
	return im, nil
}

// usualSteps is more than a script without grants has.
const usualSteps = 256

// script writes steps into an image. It remembers the first overflow, so that
// callers check once.
type script struct {
	im    *image
	then  uintptr
	steps []step
	group control // of the steps that follow
	off   control // groups that a test switched off
	names []string
	full  bool

	ruleFD int // see the function
}

// What a child does after its script.
const (
	thenTask = iota // report, wait for a task and run it
	thenExit        // report and exit
	thenHold        // hold its namespaces open until it is killed
)

func newScript(im *image, off control, then uintptr) *script {
	im.nodata = 0
	return &script{im: im, then: then, off: off, steps: make([]step, 0, usualSteps), names: make([]string, 0, usualSteps)}
}

// end puts the steps into the image and returns their names.
func (s *script) end() ([]string, error) {
	if s.full {
		return nil, errors.New("the sandbox's setup does not fit into its image: fewer or shorter grants")
	}
	for i, st := range s.steps {
		if s.im.steps[i] != st { // see bytes
			s.im.steps[i] = st
		}
	}
	s.im.then, s.im.nsteps = s.then, uintptr(len(s.steps))
	return s.names, nil
}

// bytes copies b into the image and returns its address.
func (s *script) bytes(b []byte) uintptr {
	// Eight-byte alignment, as structures are passed this way too.
	at := (s.im.nodata + 7) &^ 7
	if at+uintptr(len(b))+1 > dataSize {
		s.full = true
		return 0
	}
	end := at + uintptr(len(b))
	// One script is much like the last: what is not written is not copied, for
	// the children have these pages too.
	if !bytes.Equal(s.im.data[at:end], b) || s.im.data[end] != 0 {
		copy(s.im.data[at:], b)
		s.im.data[end] = 0
	}
	s.im.nodata = end + 1
	return uintptr(unsafe.Pointer(&s.im.data[at]))
}

func (s *script) str(v string) uintptr { return s.bytes([]byte(v)) }

// reg marks an argument as the result that an earlier step left in register n.
type reg uint8

// do appends a step. Arguments are uintptr, int, string (its address) or reg.
func (s *script) do(name string, trap uintptr, args ...any) *step {
	if len(s.steps) >= maxSteps {
		s.full = true
		return &step{}
	}
	if s.group != 0 && s.off&s.group != 0 {
		return &step{}
	}
	s.steps = append(s.steps, step{trap: trap, id: uint16(len(s.names))})
	st := &s.steps[len(s.steps)-1]
	for i, a := range args {
		switch v := a.(type) {
		case uintptr:
			st.args[i] = v
		case int:
			st.args[i] = uintptr(v)
		case string:
			st.args[i] = s.str(v)
		case reg:
			st.regs[i] = uint8(v)
		default:
			s.full = true // cannot happen: do is called with literals
		}
	}
	s.names = append(s.names, name)
	return st
}

// into keeps a step's result; maybe lets it fail.
func (st *step) into(r reg) *step { st.out = uint8(r); return st }
func (st *step) maybe() *step     { st.soft = true; return st }
