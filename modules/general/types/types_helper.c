// SPDX-License-Identifier: GPL-2.0
/*
 * types_helper - what the C library's headers say about the same types.
 */
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#define NAME_OF(type)							\
	(__builtin_types_compatible_p(type, int) ? "int" :		\
	 __builtin_types_compatible_p(type, unsigned int) ? "unsigned int" : \
	 __builtin_types_compatible_p(type, long) ? "long" :		\
	 __builtin_types_compatible_p(type, unsigned long) ? "unsigned long" : \
	 __builtin_types_compatible_p(type, long long) ? "long long" :	\
	 __builtin_types_compatible_p(type, unsigned long long) ?	\
		"unsigned long long" : "something else")

#define SHOW(type)							\
	printf("%s is %s, %zu bytes\n", #type, NAME_OF(type), sizeof(type))

int main(void)
{
	SHOW(pid_t);
	SHOW(uid_t);
	SHOW(gid_t);
	SHOW(size_t);
	SHOW(ptrdiff_t);
	SHOW(time_t);
	return 0;
}
