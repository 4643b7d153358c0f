// SPDX-License-Identifier: GPL-2.0
/*
 * sigkill_helper - a process that blocks every signal it can, or a zombie.
 *
 *	sigkill_helper
 *	sigkill_helper zombie	print a zombie's pid and go on
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
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
	pthread_t thread;
	siginfo_t info;
	sigset_t all;
	pid_t pid;

	(void)argv;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (argc > 1) {
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
	for (;;)
		pause();
}
