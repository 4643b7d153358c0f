// SPDX-License-Identifier: GPL-2.0
/*
 * rename_helper - a process of two threads, "first" and "second". At each line
 * of input it says what they are called; at "fault" it does what the kernel logs
 * with the name of the one who did it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
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

static void fault(void)
{
	*(char *)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
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
	signal(SIGSEGV, SIG_DFL);
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "fault\n"))
			fault();
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
