// SPDX-License-Identifier: GPL-2.0
/*
 * pc_helper REGIONS - map that many regions and fork. A line of input is for the
 * child: "region" makes a region read-only, "page" a page of one, "map" maps one
 * more, "exec" makes it another program.
 *
 * It prints with write() and reads with read(): stdio would allocate buffers,
 * and change what is compared.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGES	4

static long page;
static char *private, *shared;

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

static void *map(int flags)
{
	void *p = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE,
		       flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static void obey(int commands)
{
	static char line[32];
	ssize_t n;

	say("child %d\n", getpid());
	while ((n = read(commands, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		if (!strncmp(line, "region", 6))
			mprotect(shared, PAGES * page, PROT_READ);
		else if (!strncmp(line, "page", 4))
			mprotect(private + page, page, PROT_READ);
		else if (!strncmp(line, "map", 3))
			map(MAP_SHARED);
		else if (!strncmp(line, "exec", 4))
			execl("/proc/self/exe", "pc_helper", NULL);
		say("child: %s", line);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	static char line[32];
	ssize_t n;
	int i, commands[2];

	if (argc < 2) {
		say("another program\n");
		for (;;)
			pause();
	}
	page = sysconf(_SC_PAGESIZE);
	private = map(MAP_PRIVATE);
	shared = map(MAP_SHARED);
	for (i = 0; i < atoi(argv[1]); i++)
		map(i % 2 ? MAP_SHARED : MAP_PRIVATE);
	if (pipe(commands))
		return 1;
	switch (fork()) {
	case -1:
		return 1;
	case 0:
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		obey(commands[0]);
	}
	while ((n = read(0, line, sizeof(line))) > 0)
		if (write(commands[1], line, n) != n)
			return 1;
	return 0;
}
