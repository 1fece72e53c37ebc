#include "textflag.h"

// func rawClone(trap, a1, a2, a3 uintptr, im *image) (r1, err uintptr)
//
// The child has an empty stack: it cannot return to where the parent does, and
// runs childMain, which never returns.
TEXT ·rawClone(SB), NOSPLIT|NOFRAME, $0-56
	MOVQ a1+8(FP), DI
	MOVQ a2+16(FP), SI
	MOVQ a3+24(FP), DX
	MOVQ im+32(FP), R12
	MOVQ $0, R10
	MOVQ $0, R8
	MOVQ $0, R9
	MOVQ trap+0(FP), AX
	SYSCALL
	CMPQ AX, $0xfffffffffffff001
	JLS  ok
	MOVQ $-1, r1+40(FP)
	NEGQ AX
	MOVQ AX, err+48(FP)
	RET

ok:
	TESTQ AX, AX
	JEQ   child
	MOVQ  AX, r1+40(FP)
	MOVQ  $0, err+48(FP)
	RET

child:
	SUBQ $16, SP
	MOVQ R12, 0(SP)
	CALL ·childMain(SB)
	INT  $3
