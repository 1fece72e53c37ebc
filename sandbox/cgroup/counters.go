package cgroup

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// counterFiles are what Usage reads, by version and controller.
var counterFiles = [3]map[string][]string{
	1: {Memory: {"memory.max_usage_in_bytes", "memory.oom_control"}, CPUAcct: {"cpuacct.usage"}},
	2: {Memory: {"memory.peak", "memory.events"}, CPU: {"cpu.stat"}},
}

// openCounters opens them beforehand: a result waits for what they say, and to
// open one takes several times as long as to read it. What cannot be opened is
// looked for again when it is read.
func (d *groupDir) openCounters() {
	d.counters = map[string]int{}
	for _, c := range d.controllers {
		for _, file := range counterFiles[d.version][c] {
			if fd, err := openCounter(filepath.Join(d.path, file)); err == nil {
				d.counters[file] = fd
			}
		}
	}
}

func (d *groupDir) closeCounters() {
	for _, fd := range d.counters {
		unix.Close(fd)
	}
	clear(d.counters)
}

func openCounter(path string) (int, error) {
	return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// counterSize is more than any of the files has.
const counterSize = 4096

func (d groupDir) read(file string, buf []byte) ([]byte, error) {
	fd, ok := d.counters[file]
	if !ok {
		path := filepath.Join(d.path, file)
		var err error
		if fd, err = openCounter(path); err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
	}
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: filepath.Join(d.path, file), Err: err}
	}
	return buf[:n], nil
}

func (d groupDir) number(file string) (int64, bool) {
	var buf [counterSize]byte
	b, err := d.read(file, buf[:])
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}

// field reads one line "name number" of a flat keyed file.
func (d groupDir) field(file, name string) (int64, bool) {
	var buf [counterSize]byte
	b, err := d.read(file, buf[:])
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if ok && string(key) == name {
			n, err := strconv.ParseInt(string(value), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
