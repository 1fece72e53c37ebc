#include "textflag.h"

// func cloneChild(trap, a1, a2, a3, main uintptr, im *image) (ret uintptr)
//
// The child has an empty stack: it cannot return to where the parent does. It
// calls main in Go's own way, with the argument in R0, and room on the stack to
// save it: the detour for assembly would tell the race detector.
TEXT ·cloneChild(SB), NOSPLIT|NOFRAME, $0-56
	MOVD a1+8(FP), R0
	MOVD a2+16(FP), R1
	MOVD a3+24(FP), R2
	MOVD main+32(FP), R19
	MOVD im+40(FP), R20
	MOVD $0, R3
	MOVD $0, R4
	MOVD $0, R5
	MOVD trap+0(FP), R8
	SVC
	CBZ  R0, child
	MOVD R0, ret+48(FP)
	RET

child:
	SUB  $32, RSP
	MOVD R20, R0
	MOVD ZR, g // there is none
	CALL (R19)
	BRK
