// SPDX-License-Identifier: GPL-2.0
/*
 * cr_helper - load cr.ko right after a page fault at an address of one's own,
 * and unload it; some times, as another fault may come in between.
 *
 *	cr_helper ADDRESS TIMES
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int open_module(void)
{
	struct utsname uts;
	char file[256];
	int fd;

	uname(&uts);
	snprintf(file, sizeof(file), "/lib/modules/%s/extra/cr.ko",
		 uts.release);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(file);
	return fd;
}

/* Nothing may fault between the touch and the end of the load. */
static void fault_and_load(char *address, int fd)
{
	unsigned long size = sysconf(_SC_PAGESIZE);
	char *page = (char *)((unsigned long)address & ~(size - 1));

	if (mmap(page, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != page)
		die("mmap");
	*address = 1;
	if (syscall(SYS_finit_module, fd, "", 0))
		die("finit_module");
	if (syscall(SYS_delete_module, "cr", O_NONBLOCK))
		die("delete_module");
	munmap(page, size);
}

int main(int argc, char **argv)
{
	struct sched_param param = { .sched_priority = 1 };
	int fd, i;

	if (argc != 3) {
		fprintf(stderr, "usage: cr_helper ADDRESS TIMES\n");
		return 2;
	}
	fd = open_module();
	/* All that is mapped now is there, and whoever faults has to wait. */
	if (mlockall(MCL_CURRENT) || sched_setscheduler(0, SCHED_FIFO, &param))
		die("cr_helper");
	for (i = 0; i < atoi(argv[2]); i++)
		fault_and_load((char *)strtoul(argv[1], NULL, 0), fd);
	return 0;
}
