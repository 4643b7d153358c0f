// SPDX-License-Identifier: GPL-2.0
/*
 * mem_values_helper - what a program sees of the page tables: four levels
 * reach 47 bits of addresses, five reach 56.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	long size = sysconf(_SC_PAGESIZE);
	/* Addresses above 47 bits are given only to those who ask for them. */
	void *hint = (void *)(1UL << 55);
	void *p = mmap(hint, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	printf("levels %d\n", (unsigned long)p >> 47 ? 5 : 4);
	printf("page size %ld\n", size);
	return 0;
}
