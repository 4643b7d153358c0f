// SPDX-License-Identifier: GPL-2.0
/*
 * threads_helper - a process with a thread for each name.
 *
 *	threads_helper [NAME...]
 *	threads_helper -e [NAME...]	whose first thread has ended
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int there[2];

static void *thread(void *name)
{
	prctl(PR_SET_NAME, name);
	printf("tid=%ld name=%s\n", syscall(SYS_gettid), (char *)name);
	fflush(stdout);
	if (write(there[1], "", 1) != 1)
		return NULL;
	for (;;)
		pause();
	return NULL;
}

/* The last one says that all are ready, as the first may be no more. */
static void *reporter(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "last");
	printf("ready last=%ld\n", syscall(SYS_gettid));
	fflush(stdout);
	for (;;)
		pause();
	return NULL;
}

int main(int argc, char **argv)
{
	int ends = argc > 1 && !strcmp(argv[1], "-e");
	int i = 1 + ends;
	pthread_t t;
	char c;

	if (pipe(there))
		return 1;
	prctl(PR_SET_NAME, "first");
	for (; i < argc; i++)
		if (pthread_create(&t, NULL, thread, argv[i]) ||
		    read(there[0], &c, 1) != 1) {
			perror("thread");
			return 1;
		}
	if (pthread_create(&t, NULL, reporter, NULL)) {
		perror("thread");
		return 1;
	}
	/* This thread only. pthread_exit() needs one more library. */
	if (ends)
		syscall(SYS_exit, 0);
	pthread_join(t, NULL);
	return 0;
}
