#include "textflag.h"

// takeSignal is a signal handler that does nothing.
TEXT ·takeSignal(SB), NOSPLIT|NOFRAME, $0
	RET

DATA ·takeSignalAddr(SB)/8, $·takeSignal(SB)
GLOBL ·takeSignalAddr(SB), NOPTR|RODATA, $8
