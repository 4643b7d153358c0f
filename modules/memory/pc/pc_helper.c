// SPDX-License-Identifier: GPL-2.0
/*
 * pc_helper REGIONS - map that many regions and fork. A line of input is for the
 * child: "protect" makes a page of it read-only, "map" maps one more, "exec"
 * makes it another program.
 *
 * It prints with dprintf() and reads with read(): stdio would allocate buffers,
 * and change what is compared.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGES	4

static long page;

static void *map(int shared)
{
	void *p = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE,
		       (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static void obey(int commands, char *region)
{
	static char line[32];
	ssize_t n;

	dprintf(1, "child %d\n", getpid());
	while ((n = read(commands, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		if (!strncmp(line, "protect", 7))
			mprotect(region + page, page, PROT_READ);
		else if (!strncmp(line, "map", 3))
			map(1);
		else if (!strncmp(line, "exec", 4))
			execl("/proc/self/exe", "pc_helper", NULL);
		dprintf(1, "child: %s", line);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	static char line[32];
	char *region;
	ssize_t n;
	int i, commands[2];

	if (argc < 2) {
		dprintf(1, "another program\n");
		for (;;)
			pause();
	}
	page = sysconf(_SC_PAGESIZE);
	region = map(0);
	for (i = 0; i < atoi(argv[1]); i++)
		map(i % 2);
	if (pipe(commands))
		return 1;
	switch (fork()) {
	case -1:
		return 1;
	case 0:
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		obey(commands[0], region);
	}
	while ((n = read(0, line, sizeof(line))) > 0)
		if (write(commands[1], line, n) != n)
			return 1;
	return 0;
}
