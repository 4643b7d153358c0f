// SPDX-License-Identifier: GPL-2.0
/*
 * sizes_helper - the same sizes, measured: the distance between two neighbours
 * in an array. Each line has the type, then the bytes.
 */
#include <stdint.h>
#include <stdio.h>

#define SHOW(type) do {							\
	type pair[2];							\
									\
	printf("%s=%td\n", #type, (char *)&pair[1] - (char *)&pair[0]);	\
} while (0)

int main(void)
{
	SHOW(char);
	SHOW(short);
	SHOW(int);
	SHOW(long);
	SHOW(long long);
	SHOW(void *);
	SHOW(int8_t);
	SHOW(uint8_t);
	SHOW(int16_t);
	SHOW(uint16_t);
	SHOW(int32_t);
	SHOW(uint32_t);
	SHOW(int64_t);
	SHOW(uint64_t);
	return 0;
}
