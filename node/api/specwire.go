package api

import (
	"encoding/binary"
	"fmt"

	"holdfast/fsm"
)

// The encodings of a submission, byte for byte those of fsm.Marshal and
// fsm.NewCommand: core deterministic CBOR with integer keys. Written by hand
// because reflection over a spec costs more than everything else that a
// submission needs; the tests hold the two against each other.

// appendHead appends an item's head in its shortest form.
func appendHead(b []byte, major byte, v uint64) []byte {
	m := major << 5
	switch {
	case v < 24:
		return append(b, m|byte(v))
	case v < 1<<8:
		return append(b, m|24, byte(v))
	case v < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, m|25), uint16(v))
	case v < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, m|26), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, m|27), v)
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

// record appends a map with integer keys below 24, in rising order, and leaves
// out empty values. The head, one byte, is corrected at the end.
type record struct {
	b    []byte
	head int
}

func newRecord(b []byte) record { return record{append(b, cborMap<<5), len(b)} }

func (r *record) key(k byte) {
	r.b[r.head]++
	r.b = append(r.b, k)
}

func (r *record) uint(k byte, v uint64) {
	if v != 0 {
		r.key(k)
		r.b = appendHead(r.b, cborUint, v)
	}
}

func (r *record) int(k byte, v int64) {
	if v < 0 {
		r.key(k)
		r.b = appendHead(r.b, cborNegative, uint64(-1-v))
		return
	}
	r.uint(k, uint64(v))
}

func (r *record) text(k byte, s string) {
	if s != "" {
		r.key(k)
		r.b = appendText(r.b, s)
	}
}

func (r *record) texts(k byte, list []string) {
	if len(list) > 0 {
		r.array(k, len(list))
		for _, s := range list {
			r.b = appendText(r.b, s)
		}
	}
}

// array begins one of n items that the caller appends.
func (r *record) array(k byte, n int) {
	r.key(k)
	r.b = appendHead(r.b, cborArray, uint64(n))
}

func appendShape(b []byte, s *fsm.Shape) []byte {
	r := newRecord(b)
	r.uint(1, uint64(s.Priority))
	r.uint(2, uint64(s.CPUMillis))
	r.uint(3, s.MemoryBytes)
	if len(s.Constraints) > 0 {
		r.array(4, len(s.Constraints))
		for i := range s.Constraints {
			r.b = appendConstraint(r.b, &s.Constraints[i])
		}
	}
	r.texts(5, s.Abilities)
	r.uint(6, uint64(s.Placement))
	r.int(7, int64(s.QueueTimeout))
	r.int(8, int64(s.RunTimeout))
	r.uint(9, uint64(s.RetryLimit))
	r.int(10, int64(s.RetryBackoff))
	r.uint(11, uint64(s.OnLost))
	if len(s.Labels) > 0 {
		r.array(12, len(s.Labels))
		for _, l := range s.Labels {
			r.b = appendText(append(r.b, cborMap<<5|2, 1), l.Key)
			r.b = appendText(append(r.b, 2), l.Value)
		}
	}
	return r.b
}

func appendConstraint(b []byte, c *fsm.Constraint) []byte {
	r := newRecord(b)
	r.key(1)
	r.b = appendText(r.b, c.Key)
	r.key(2)
	r.b = appendHead(r.b, cborUint, uint64(c.Op))
	r.texts(3, c.Values)
	return r.b
}

// appendSpec appends an encoded spec, with its shape as appendShape gave it.
func appendSpec(b []byte, s *fsm.Spec, shape []byte) []byte {
	r := newRecord(b)
	r.text(1, s.Name)
	r.array(2, len(s.Command))
	for _, a := range s.Command {
		r.b = appendText(r.b, a)
	}
	r.texts(3, s.Env)
	r.text(4, s.WorkDir)
	if len(s.Stdin) > 0 {
		r.key(5)
		r.b = append(appendHead(r.b, cborBytes, uint64(len(s.Stdin))), s.Stdin...)
	}
	if len(s.Mounts) > 0 {
		r.array(6, len(s.Mounts))
		for _, m := range s.Mounts {
			r.b = appendMount(r.b, m)
		}
	}
	r.uint(7, uint64(s.PIDs))
	r.int(8, s.OutputLimitBytes)
	r.int(9, int64(s.KillGrace))
	r.key(10)
	r.b = append(r.b, shape...)
	r.int(11, int64(s.CPUTimeLimit))
	r.uint(12, uint64(s.OnOutputLimit))
	if s.Scratch != nil {
		r.key(13)
		r.b = appendScratch(r.b, s.Scratch)
	}
	if len(s.Secrets) > 0 {
		r.array(14, len(s.Secrets))
		for _, x := range s.Secrets {
			r.b = appendText(append(r.b, cborMap<<5|2, 1), x.Name)
			r.b = append(appendHead(append(r.b, 2), cborBytes, uint64(len(x.Value))), x.Value...)
		}
	}
	r.uint(15, uint64(s.Network))
	if s.IO != nil {
		r.key(16)
		io := newRecord(r.b)
		io.uint(1, uint64(s.IO.Weight))
		io.int(2, s.IO.ReadBPS)
		io.int(3, s.IO.WriteBPS)
		r.b = io.b
	}
	return r.b
}

func appendScratch(b []byte, s *fsm.Scratch) []byte {
	b = appendText(append(b, cborMap<<5|3, 1), s.Target)
	b = appendHead(append(b, 2), cborUint, uint64(s.Bytes))
	return appendHead(append(b, 3), cborUint, uint64(s.Inodes))
}

func appendMount(b []byte, m fsm.Mount) []byte {
	r := newRecord(b)
	r.key(1)
	r.b = appendText(r.b, m.Source)
	r.key(2)
	r.b = appendText(r.b, m.Target)
	if m.Writable {
		r.key(3)
		r.b = append(r.b, cborTrue)
	}
	return r.b
}

// appendSubmit appends the head of a command that submits n tasks, each of
// which appendTask appends.
func appendSubmit(b []byte, version uint8, id *fsm.RequestID, principal string, n int) []byte {
	r := newRecord(b)
	r.uint(1, uint64(version))
	r.uint(2, uint64(fsm.CmdSubmit))
	if *id != (fsm.RequestID{}) {
		r.key(3)
		r.b = append(appendHead(r.b, cborBytes, uint64(len(id))), id[:]...)
	}
	r.text(4, principal)
	r.key(5)
	r.b = append(r.b, cborMap<<5|1, 1)
	return appendHead(r.b, cborArray, uint64(n))
}

// submitVersion asks the state machine's own encoder.
func submitVersion() (uint8, error) {
	b, err := fsm.NewCommand(fsm.CmdSubmit, fsm.RequestID{}, "", fsm.Submit{})
	if err != nil {
		return 0, fmt.Errorf("api: the version of a submission: %w", err)
	}
	var c fsm.Command
	if err := fsm.Unmarshal(b, &c); err != nil {
		return 0, fmt.Errorf("api: the version of a submission: %w", err)
	}
	return c.Version, nil
}

// appendTask appends one task of a submission, and tells the size of its spec.
func appendTask(b []byte, s *fsm.Spec) (_ []byte, size int) {
	b = append(b, cborMap<<5|2, 1)
	at := len(b)
	b = appendShape(b, &s.Shape)
	shape := b[at:]
	b = append(b, 2)
	at = len(b)
	b = appendSpec(b, s, shape)
	return b, len(b) - at
}
