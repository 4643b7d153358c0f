// SPDX-License-Identifier: GPL-2.0
/*
 * rename_helper - a process of two threads, "first" and "second". At each line
 * of input it says what they are called.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int to_second[2], to_first[2];

static void *other(void *unused)
{
	char name[16] = "", c;

	(void)unused;
	prctl(PR_SET_NAME, "second");
	printf("ready tid=%ld\n", syscall(SYS_gettid));
	fflush(stdout);
	while (read(to_second[0], &c, 1) == 1) {
		prctl(PR_GET_NAME, name);
		printf("second thread is %s\n", name);
		fflush(stdout);
		if (write(to_first[1], &c, 1) != 1)
			break;
	}
	return NULL;
}

int main(void)
{
	char line[64], name[16] = "", c;
	pthread_t thread;

	prctl(PR_SET_NAME, "first");
	if (pipe(to_second) || pipe(to_first) ||
	    pthread_create(&thread, NULL, other, NULL)) {
		perror("rename_helper");
		return 1;
	}
	while (fgets(line, sizeof(line), stdin)) {
		prctl(PR_GET_NAME, name);
		printf("first thread is %s\n", name);
		fflush(stdout);
		if (write(to_second[1], "", 1) != 1 ||
		    read(to_first[0], &c, 1) != 1)
			return 1;
	}
	for (;;)
		pause();
}
