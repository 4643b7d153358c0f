// SPDX-License-Identifier: GPL-2.0
/*
 * sigkill_helper - a process that blocks every signal it can, or a zombie.
 *
 *	sigkill_helper
 *	sigkill_helper ended	whose first thread has ended
 *	sigkill_helper zombie	print a zombie's pid and go on
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *second(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	pthread_t thread;
	siginfo_t info;
	sigset_t all;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (!strcmp(kind, "zombie")) {
		pid = fork();
		if (!pid)
			_exit(0);
		/* WNOWAIT: wait for its end, but do not take it away. */
		if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT)) {
			perror("waitid");
			return 1;
		}
		printf("zombie=%d\n", pid);
	} else if (pthread_create(&thread, NULL, second, NULL)) {
		perror("pthread_create");
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	/* This thread only. */
	if (!strcmp(kind, "ended"))
		syscall(SYS_exit, 0);
	for (;;)
		pause();
}
