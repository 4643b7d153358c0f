// SPDX-License-Identifier: GPL-2.0
/*
 * proc_values_helper - fork until the process numbers have been round, and
 * print the lowest and the highest there is.
 *
 *	proc_values_helper FORKS
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int low = 0, high = 0, last = getpid(), round = 0;
	int n = argc == 2 ? atoi(argv[1]) : 0;

	while (n-- > 0) {
		pid_t pid = fork();

		if (pid < 0) {
			perror("fork");
			return 1;
		}
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
		if (pid < last) {
			if (last > high)
				high = last;
			low = pid;
			round++;
		}
		last = pid;
	}
	/* Somebody who lives there may have been in the way. */
	while (low > 1 && !kill(low - 1, 0))
		low--;
	while (high && !kill(high + 1, 0))
		high++;
	printf("rounds=%d low=%d high=%d\n", round, low, high);
	return 0;
}
