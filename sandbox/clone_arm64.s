#include "textflag.h"

// func rawClone(trap, a1, a2, a3 uintptr, im *image) (r1, err uintptr)
//
// The child has an empty stack: it cannot return to where the parent does, and
// runs childMain, which never returns.
TEXT ·rawClone(SB), NOSPLIT|NOFRAME, $0-56
	MOVD a1+8(FP), R0
	MOVD a2+16(FP), R1
	MOVD a3+24(FP), R2
	MOVD im+32(FP), R19
	MOVD $0, R3
	MOVD $0, R4
	MOVD $0, R5
	MOVD trap+0(FP), R8
	SVC
	CMN  $4095, R0
	BCC  ok
	MOVD $-1, R4
	MOVD R4, r1+40(FP)
	NEG  R0, R0
	MOVD R0, err+48(FP)
	RET

ok:
	CBZ  R0, child
	MOVD R0, r1+40(FP)
	MOVD ZR, err+48(FP)
	RET

child:
	SUB  $32, RSP
	MOVD R19, 8(RSP)
	CALL ·childMain(SB)
	BRK
