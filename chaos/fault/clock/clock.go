package clock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Shift has a process see its wall clock so much later, or earlier. A further
// Shift replaces the one before; 0 restores.
func Shift(pid int, by time.Duration) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("move the clock of process %d: not on %s", pid, runtime.GOARCH)
	}
	if err := shift(pid, by); err != nil {
		return fmt.Errorf("move the clock of process %d by %s: %w", pid, by, err)
	}
	return nil
}

// Restore gives the process its true clock.
func Restore(pid int) error { return Shift(pid, 0) }

func shift(pid int, by time.Duration) error {
	lo, hi, err := vdso(strconv.Itoa(pid))
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open its memory (needs ptrace rights): %w", err)
	}
	defer mem.Close()
	at, err := clockFunction()
	if err != nil {
		return err
	}
	patch := code(by)
	if by == 0 {
		if patch, err = original(at, len(patch)); err != nil {
			return err
		}
	}
	return stopped(pid, lo, hi, func() error {
		_, err := mem.WriteAt(patch, int64(lo+at))
		return err
	})
}

// Offset reads how far a process's clock is moved, from its memory.
func Offset(pid int) (time.Duration, error) {
	lo, _, err := vdso(strconv.Itoa(pid))
	if err != nil {
		return 0, err
	}
	at, err := clockFunction()
	if err != nil {
		return 0, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	have := make([]byte, len(code(1)))
	if _, err := mem.ReadAt(have, int64(lo+at)); err != nil {
		return 0, err
	}
	whole, err := original(at, len(have))
	if err != nil || bytes.Equal(have, whole) {
		return 0, err
	}
	s := int64(binary.LittleEndian.Uint64(have[secondsAt:]))
	n := int64(binary.LittleEndian.Uint64(have[nanosAt:]))
	return time.Duration(s)*time.Second + time.Duration(n), nil
}

// vdso is where a process has the page.
func vdso(pid string) (lo, hi uint64, err error) {
	maps, err := os.ReadFile("/proc/" + pid + "/maps")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		span, _, _ := strings.Cut(line, " ")
		a, b, _ := strings.Cut(span, "-")
		lo, err1 := strconv.ParseUint(a, 16, 64)
		hi, err2 := strconv.ParseUint(b, 16, 64)
		return lo, hi, errors.Join(err1, err2)
	}
	return 0, 0, errors.New("it has no vDSO")
}

// ownMemory reads this process's memory: all processes have the same vDSO.
func ownMemory(from uint64, n int) ([]byte, error) {
	f, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	_, err = f.ReadAt(b, int64(from))
	return b, err
}

// clockFunction is the offset of clock_gettime in the page.
func clockFunction() (uint64, error) {
	lo, hi, err := vdso("self")
	if err != nil {
		return 0, err
	}
	image, err := ownMemory(lo, int(hi-lo))
	if err != nil {
		return 0, err
	}
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read the vDSO's symbols: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			return s.Value, nil
		}
	}
	return 0, errors.New("the vDSO has no clock_gettime")
}

// original is what the kernel has put there.
func original(at uint64, n int) ([]byte, error) {
	lo, _, err := vdso("self")
	if err != nil {
		return nil, err
	}
	return ownMemory(lo+at, n)
}

// patience bounds the search for a moment without a thread in the vDSO.
const patience = 2 * time.Second

// stopped runs f while no thread of the process runs, nor is inside the page.
func stopped(pid int, lo, hi uint64, f func() error) (err error) {
	defer func() { err = errors.Join(err, syscall.Kill(pid, syscall.SIGCONT)) }()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		for range 20 {
			safe, still := outside(pid, lo, hi)
			if safe {
				return f()
			}
			if still {
				break // stopped inside the page: let it go on and try again
			}
			time.Sleep(time.Millisecond) // the kernel stops thread by thread
		}
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("no moment within %s at which all its threads stood outside of the vDSO", patience)
}

// outside reports whether every thread stands still outside of the page, and
// whether every thread stands still.
func outside(pid int, lo, hi uint64) (safe, still bool) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, false
	}
	safe = true
	for _, t := range threads {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, t.Name()))
		words := strings.Fields(string(b))
		if err != nil || len(words) < 2 {
			return false, false // it runs, or has ended
		}
		pc, err := strconv.ParseUint(strings.TrimPrefix(words[len(words)-1], "0x"), 16, 64)
		if err != nil {
			return false, false
		}
		if pc >= lo && pc < hi {
			safe = false
		}
	}
	return safe, true
}
