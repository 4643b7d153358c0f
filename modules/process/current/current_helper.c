// SPDX-License-Identifier: GPL-2.0
/*
 * current_helper - load and unload current.ko under a name of one's own.
 *
 *	current_helper NAME		from the process's first thread
 *	current_helper NAME thread	from another one
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static const char *name;
static int status = 1;

static void *load_and_unload(void *unused)
{
	struct utsname uts;
	char file[256];
	int fd;

	(void)unused;
	prctl(PR_SET_NAME, name);
	printf("thread=%ld process=%d\n", syscall(SYS_gettid), getpid());
	uname(&uts);
	snprintf(file, sizeof(file), "/lib/modules/%s/extra/current.ko",
		 uts.release);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		perror(file);
		return NULL;
	}
	if (syscall(SYS_finit_module, fd, "", 0))
		perror("finit_module");
	else if (syscall(SYS_delete_module, "current", O_NONBLOCK))
		perror("delete_module");
	else
		status = 0;
	close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 2) {
		fprintf(stderr, "usage: current_helper NAME [thread]\n");
		return 2;
	}
	name = argv[1];
	if (argc == 2)
		load_and_unload(NULL);
	else if (!pthread_create(&thread, NULL, load_and_unload, NULL))
		pthread_join(thread, NULL);
	return status;
}
