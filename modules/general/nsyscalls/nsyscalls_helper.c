// SPDX-License-Identifier: GPL-2.0
/*
 * nsyscalls_helper - what the kernel's tables said when this was built. Kbuild
 * counted their rows.
 */
#include <stdio.h>

int main(void)
{
#ifdef SLOTS_64
	printf("64-bit: %d slots, %d implemented\n", SLOTS_64, CALLS_64);
	printf("x32: %d slots\n", SLOTS_X32);
	printf("ia32: %d slots\n", SLOTS_IA32);
	return 0;
#else
	fprintf(stderr, "the kernel's source was not there to count\n");
	return 1;
#endif
}
