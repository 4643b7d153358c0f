// SPDX-License-Identifier: GPL-2.0
/*
 * pid_helper - a process of two threads with names of their own.
 *
 *	pid_helper NAME THREAD_NAME
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *second(void *name)
{
	prctl(PR_SET_NAME, name);
	printf("ready tid=%ld\n", syscall(SYS_gettid));
	fflush(stdout);
	for (;;)
		pause();
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc != 3) {
		fprintf(stderr, "usage: pid_helper NAME THREAD_NAME\n");
		return 2;
	}
	prctl(PR_SET_NAME, argv[1]);
	if (pthread_create(&thread, NULL, second, argv[2])) {
		perror("pthread_create");
		return 1;
	}
	pthread_join(thread, NULL);
	return 0;
}
