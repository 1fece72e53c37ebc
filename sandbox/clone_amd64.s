#include "textflag.h"

// func cloneChild(trap, a1, a2, a3, main uintptr, im *image) (ret uintptr)
//
// The child has an empty stack: it cannot return to where the parent does. It
// calls main in Go's own way, with the argument in AX, and room on the stack to
// save it: the detour for assembly would load the goroutine from thread-local
// memory, and tell the race detector.
TEXT ·cloneChild(SB), NOSPLIT|NOFRAME, $0-56
	MOVQ a1+8(FP), DI
	MOVQ a2+16(FP), SI
	MOVQ a3+24(FP), DX
	MOVQ main+32(FP), R12
	MOVQ im+40(FP), R13
	MOVQ $0, R10
	MOVQ $0, R8
	MOVQ $0, R9
	MOVQ trap+0(FP), AX
	SYSCALL
	TESTQ AX, AX
	JEQ   child
	MOVQ  AX, ret+48(FP)
	RET

child:
	SUBQ  $16, SP
	MOVQ  R13, AX
	XORL  R14, R14 // the goroutine: there is none
	XORPS X15, X15 // zero, by convention
	CALL  R12
	INT   $3
