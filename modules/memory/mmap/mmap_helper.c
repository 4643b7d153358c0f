// SPDX-License-Identifier: GPL-2.0
/*
 * mmap_helper private|shared POSITION [ended|hugetlb] - have a page with 100 'a'
 * and one with 200 'b' at the given page of two areas, and pages that only look
 * like them. Fork, so that a child has the same. For a line of input print what
 * is there, here and in the child.
 *
 * With "ended" another thread does so, and the first ends. With "hugetlb" there
 * is also a huge page that is never touched.
 *
 * It prints with write() and reads with read(): stdio would allocate buffers
 * in the memory that is searched.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGES	64
#define NEAR	10
#define HUGE	(2L << 20)

static long page;
static char *first, *second, *decoys, *fixed;
static int ask[2], answer[2];	/* pipes to the child and back */

/* Pages that a search which is not careful takes for the texts. */
static const struct decoy {
	int offset, length;
	char letter;
} near[NEAR] = {
	{ 0, 3, 'a' }, { 0, 99, 'a' }, { 0, 101, 'a' }, { 1, 100, 'a' },
	{ 0, 200, 'a' }, { 0, 3, 'b' }, { 0, 199, 'b' }, { 0, 201, 'b' },
	{ 0, 100, 'b' }, { 8, 200, 'b' },
};

static void say(const char *format, ...)
{
	static char text[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (write(1, text, n) != n)
		exit(1);
}

static char *map(int pages, int flags)
{
	char *p = mmap(NULL, pages * page, PROT_READ | PROT_WRITE,
		       flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static void fill(int position, int flags)
{
	int i;

	first = map(PAGES, flags) + position * page;
	memset(first, 'a', 100);
	second = map(PAGES, flags) + position * page;
	memset(second, 'b', 200);
	decoys = map(2 * NEAR, flags);
	for (i = 0; i < NEAR; i++) {
		/* Every other page stays absent. */
		char *p = decoys + 2 * i * page;

		memset(p + near[i].offset, near[i].letter, near[i].length);
	}
	fixed = map(1, flags);
	memset(fixed, 'a', 100);
	if (mprotect(fixed, page, PROT_READ))
		exit(1);
}

static int intact(const char *p, const struct decoy *d)
{
	int i;

	for (i = 0; i < 300; i++)
		if (p[i] != (i >= d->offset && i < d->offset + d->length ?
			     d->letter : 0))
			return 0;
	return 1;
}

static void show(const char *who)
{
	static const struct decoy whole = { 0, 100, 'a' };
	int i, changed = !intact(fixed, &whole);

	for (i = 0; i < NEAR; i++)
		changed += !intact(decoys + 2 * i * page, &near[i]);
	say("%s text 1: %s\n", who, first);
	say("%s text 2: %s\n", who, second);
	say("%s decoys changed: %d\n", who, changed);
}

static void *serve(void *unused)
{
	static char line[32];

	say("ready\n");
	while (read(0, line, sizeof(line)) > 0) {
		show("parent");
		if (write(ask[1], line, 1) != 1 || read(answer[0], line, 1) != 1)
			exit(1);
		say("shown\n");
	}
	return unused;
}

int main(int argc, char **argv)
{
	const char *more = argc > 3 ? argv[3] : "";
	char letter;
	pthread_t t;
	pid_t pid;

	if (argc < 3)
		return 2;
	page = sysconf(_SC_PAGESIZE);
	fill(atoi(argv[2]) % PAGES,
	     strcmp(argv[1], "shared") ? MAP_PRIVATE : MAP_SHARED);
	if (!strcmp(more, "hugetlb"))
		map(HUGE / page, MAP_PRIVATE | MAP_HUGETLB);
	if (pipe(ask) || pipe(answer))
		return 1;
	pid = fork();
	if (pid < 0)
		return 1;
	if (!pid) {
		/* So that it reads the end when the parent is no more. */
		close(ask[1]);
		while (read(ask[0], &letter, 1) == 1) {
			show("child");
			if (write(answer[1], &letter, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	if (!strcmp(more, "ended")) {
		if (pthread_create(&t, NULL, serve, NULL))
			return 1;
		syscall(SYS_exit, 0);	/* this thread only */
	}
	serve(NULL);
	return 0;
}
