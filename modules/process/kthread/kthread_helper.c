// SPDX-License-Identifier: GPL-2.0
/*
 * kthread_helper - send a signal to any process, and say what came of it.
 *
 *	kthread_helper PID SIGNAL
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: kthread_helper PID SIGNAL\n");
		return 2;
	}
	if (kill(atoi(argv[1]), atoi(argv[2])))
		printf("kill: %s\n", strerror(errno));
	else
		printf("sent\n");
	return 0;
}
