// SPDX-License-Identifier: GPL-2.0
/*
 * vma_helper - a line "COUNT PAGES" on its input makes it map that many regions
 * of that many pages, with gaps between them. Its first child is a zombie.
 *
 * It prints with write() and reads with read(): stdio would allocate buffers,
 * and change what is measured.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *format, ...)
{
	static char text[64];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (write(1, text, n) != n)
		exit(1);
}

static void map(unsigned long count, unsigned long pages)
{
	unsigned long i, size = pages * sysconf(_SC_PAGESIZE);
	char *area = mmap(NULL, (2 * count + 1) * size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		exit(1);
	/* The gaps are on either side, and between two regions each. */
	for (i = 0; i <= count; i++)
		if (munmap(area + 2 * i * size, size))
			exit(1);
}

int main(void)
{
	unsigned long count, pages;
	static char line[64];
	ssize_t n;
	pid_t child = fork();

	if (child < 0)
		return 1;
	if (!child)
		_exit(0);
	waitid(P_PID, child, NULL, WEXITED | WNOWAIT);
	say("zombie %d\n", child);
	while ((n = read(0, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		if (sscanf(line, "%lu %lu", &count, &pages) != 2)
			return 2;
		map(count, pages);
		say("mapped\n");
	}
	return 0;
}
