package clock

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Where the patch holds its constants.
const (
	secondsAt = 17
	nanosAt   = 30
)

// code is clock_gettime(clock in edi, *timespec in rsi) for amd64: the system
// call, and for CLOCK_REALTIME an addition.
func code(by time.Duration) []byte {
	const second = int32(time.Second)
	s, n := int64(by/time.Second), int64(by%time.Second)
	if n < 0 {
		s, n = s-1, n+int64(second)
	}
	var b bytes.Buffer
	put := func(x ...byte) { b.Write(x) }
	number := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // to memory
	put(0xb8, 228, 0, 0, 0, 0x0f, 0x05)                                    // mov eax, SYS_clock_gettime; syscall
	put(0x85, 0xc0, 0x75, 0)                                               // test eax, eax; jnz out
	toOut1 := b.Len()
	put(0x85, 0xff, 0x75, 0) // test edi, edi (CLOCK_REALTIME is 0); jnz out
	toOut2 := b.Len()
	put(0x48, 0xb8) // mov rax, seconds
	number(s)
	put(0x48, 0x01, 0x06) // add [rsi], rax
	put(0x48, 0xb8)       // mov rax, nanoseconds
	number(n)
	put(0x48, 0x01, 0x46, 0x08)       // add [rsi+8], rax
	put(0x48, 0x81, 0x7e, 0x08)       // cmp qword [rsi+8], one second
	number(second)                    //
	put(0x7c, 0)                      // jl zero
	toZero := b.Len()                 //
	put(0x48, 0x81, 0x6e, 0x08)       // sub qword [rsi+8], one second
	number(second)                    //
	put(0x48, 0xff, 0x06)             // inc qword [rsi]
	zero := b.Len()                   //
	put(0x31, 0xc0)                   // xor eax, eax
	out := b.Len()                    //
	put(0xc3)                         // ret
	p := b.Bytes()                    //
	p[toOut1-1] = byte(out - toOut1)  // the jumps' distances
	p[toOut2-1] = byte(out - toOut2)  //
	p[toZero-1] = byte(zero - toZero) //
	return p
}
