// SPDX-License-Identifier: GPL-2.0
/*
 * wordsize_helper - what the C library says about the width of a word.
 */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	printf("%ld bits\n", sysconf(_SC_LONG_BIT));
	return 0;
}
