// SPDX-License-Identifier: GPL-2.0
/*
 * mem_helper KIND=COUNT... - have memory of each kind, and sleep. Every line of
 * input makes it write to all pages of the kind untouched.
 *
 * It prints with write() and reads with read(): stdio would allocate buffers,
 * and change what is measured.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE	(2UL << 20)

static unsigned long page, total;
static char *untouched;

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

/* Writes or reads one byte in each page of the area. */
static void touch(char *area, unsigned long size, int write)
{
	unsigned long i;

	for (i = 0; i < size; i += page) {
		/* asm: neither may be left out because nobody needs it. */
		if (write)
			asm volatile("movb $1, %0" : "=m" (area[i]));
		else
			asm volatile("" : : "r" (area[i]));
	}
}

static char *map(unsigned long size, int flags, int fd)
{
	char *p = mmap(NULL, size, PROT_READ | (fd < 0 ? PROT_WRITE : 0), flags,
		       fd, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static char *map_file(unsigned long size)
{
	int fd = memfd_create("mem_helper", 0);

	if (fd < 0 || ftruncate(fd, size))
		exit(1);
	return map(size, MAP_PRIVATE, fd);
}

/* An area for count transparent huge pages, at an address that suits them. */
static char *map_huge(unsigned long count)
{
	char *p = map((count + 1) * HUGE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	p = (char *)(((unsigned long)p + HUGE - 1) & ~(HUGE - 1));
	if (madvise(p, count * HUGE, MADV_HUGEPAGE))
		exit(1);
	return p;
}

static void have(const char *kind, unsigned long count)
{
	unsigned long size = count * page;
	char *p;

	if (!strcmp(kind, "untouched")) {
		untouched = map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		total = size;
	} else if (!strcmp(kind, "written")) {
		touch(map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1), size, 1);
	} else if (!strcmp(kind, "read")) {
		touch(map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1), size, 0);
	} else if (!strcmp(kind, "shared")) {
		touch(map(size, MAP_SHARED | MAP_ANONYMOUS, -1), size, 1);
	} else if (!strcmp(kind, "file")) {
		touch(map_file(size), size, 0);
	} else if (!strcmp(kind, "freed")) {
		p = map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		touch(p, size, 1);
		madvise(p, size, MADV_DONTNEED);
	} else if (!strcmp(kind, "forbidden")) {
		p = map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		touch(p, size, 1);
		mprotect(p, size, PROT_NONE);
	} else if (!strcmp(kind, "huge")) {
		touch(map_huge(count), count * HUGE, 1);
	} else if (!strcmp(kind, "hugeread")) {
		touch(map_huge(count), count * HUGE, 0);
	} else if (!strcmp(kind, "hugetlb")) {
		size = count * HUGE;
		touch(map(size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1),
		      size, 1);
	} else {
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static char line[32];
	char *count;
	int i;

	page = sysconf(_SC_PAGESIZE);
	for (i = 1; i < argc; i++) {
		count = strchr(argv[i], '=');
		if (!count)
			return 2;
		*count++ = '\0';
		have(argv[i], strtoul(count, NULL, 10));
	}
	say("ready\n");
	while (read(0, line, sizeof(line)) > 0) {
		touch(untouched, total, 1);
		say("touched\n");
	}
	return 0;
}
