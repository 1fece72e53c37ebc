package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// FuzzBatch applies arbitrary batches: nothing panics, errors are StopErrors,
// and two replicas agree.
func FuzzBatch(f *testing.F) {
	r := scene(f)
	for _, b := range r.log {
		f.Add(b)
	}
	base := r.log
	f.Fuzz(func(t *testing.T, batch []byte) {
		var hashes [2][32]byte
		for i := range hashes {
			s := New(Limits{Nodes: 8, QueueBound: 100})
			for j, b := range base {
				if _, err := s.Apply(uint64(j+1), b); err != nil {
					t.Fatal(err)
				}
			}
			_, err := s.Apply(uint64(len(base)+1), batch)
			var stop *StopError
			if err != nil && !errors.As(err, &stop) {
				t.Fatalf("%T: %v", err, err)
			}
			if err == nil {
				if err := New(Limits{}).Restore(bytes.NewReader(write(t, s))); err != nil {
					t.Fatalf("the state cannot be restored: %v", err)
				}
			}
			hashes[i] = s.Hash()
		}
		if hashes[0] != hashes[1] {
			t.Fatal("two replicas differ")
		}
	})
}

// FuzzCommand applies arbitrary bodies of every type; what Check accepts never
// stops a node.
func FuzzCommand(f *testing.F) {
	for kind, body := range goldenBodies(f) {
		var raw []byte
		if body != nil {
			raw, _ = Marshal(body)
		}
		f.Add(uint8(kind), raw)
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		b, err := EncodeCommand(Command{Version: 1, Type: CommandType(kind), Body: cbor.RawMessage(body)})
		if err != nil {
			return // not CBOR: FuzzBatch does those
		}
		r := scene(t)
		ok := Check(b) == nil
		a, err := r.s.Apply(r.index+1, EncodeBatch(r.now, [][]byte{b}))
		if err != nil && ok {
			t.Fatalf("checked, and stops the node: %v", err)
		}
		if err == nil && !ok && a.Results[0].Code == OK {
			t.Fatalf("refused by Check, and took effect")
		}
	})
}

// FuzzSnapshot restores arbitrary records under a right checksum, so that the
// decoders behind it are reached.
func FuzzSnapshot(f *testing.F) {
	r := scene(f)
	full := write(f, r.s)
	f.Add(full)
	snap := r.s.Snapshot()
	var portable bytes.Buffer
	if _, err := snap.WritePortable(&portable); err != nil {
		f.Fatal(err)
	}
	snap.Release()
	f.Add(portable.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resign(b)} {
			s := New(Limits{})
			if err := s.Restore(bytes.NewReader(b)); err == nil {
				again := New(Limits{})
				if err := again.Restore(bytes.NewReader(write(t, s))); err != nil || again.Hash() != s.Hash() {
					t.Fatalf("restored, but not what it writes: %v", err)
				}
				s.Apply(s.Index()+1, EncodeBatch(s.Now(), [][]byte{cmd(t, CmdTick, RequestID{}, nil)}))
				s.PlanView(10, 10)
			}
			_ = r.s.MergePortable(bytes.NewReader(b), &bytes.Buffer{})
		}
	})
}

// resign gives a snapshot's records a trailer and a checksum that fit.
func resign(b []byte) []byte {
	head := len(snapshotMagic) + 2
	if len(b) < head {
		return b
	}
	var out bytes.Buffer
	f := newFrameWriter(&out, b[head-1])
	for rest := b[head:]; len(rest) > 2; {
		s := section(rest[0])
		n, k := binary.Uvarint(rest[1:])
		if k <= 0 || n > uint64(len(rest)-1-k) || s < sectionMeta || s > sectionRequest {
			break
		}
		f.record(s, rest[1+k:1+k+int(n)])
		rest = rest[1+k+int(n):]
	}
	if _, err := f.close(); err != nil {
		return b
	}
	return out.Bytes()
}

// The seed of the snapshot fuzzer must survive being signed again, else the
// fuzzer would see nothing but checksum errors.
func TestResignKeepsGoodSnapshots(t *testing.T) {
	good := write(t, scene(t).s)
	if !bytes.Equal(resign(good), good) {
		t.Fatal("changed")
	}
	if crc32.Checksum(good[:len(good)-4], castagnoli) != binary.BigEndian.Uint32(good[len(good)-4:]) {
		t.Fatal("the checksum is not the CRC-32C of everything before it")
	}
}

// FuzzWire compares the strict reader with the library on arbitrary items.
func FuzzWire(f *testing.F) {
	f.Add([]byte{0xa1, 0x01, 0x83, 0x20, 0x41, 0x00, 0xf5})
	f.Add(payload(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := wire{b: b}
		w.skip(maxDepth)
		if w.end() == nil && cbor.Wellformed(b) != nil {
			t.Fatalf("accepted % x, which the library refuses", b)
		}
	})
}
