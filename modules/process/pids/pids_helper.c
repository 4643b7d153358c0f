// SPDX-License-Identifier: GPL-2.0
/*
 * pids_helper - processes in groups and sessions of all kinds.
 *
 *	leader	has a session of its own
 *	plain	its child, with all that the parent has
 *	group	its child, with a group of its own in the same session
 *	member	another child, in the group of "group"
 *	thread	a thread of "member"
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int there[2];

static void say(const char *name, int id)
{
	dprintf(STDOUT_FILENO, "%s=%d group=%d session=%d\n", name, id,
		getpgrp(), getsid(0));
	if (write(there[1], "", 1) != 1)
		exit(1);
}

static void wait_for_one(void)
{
	char c;

	if (read(there[0], &c, 1) != 1)
		exit(1);
}

static void *thread(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "thread");
	say("thread", syscall(SYS_gettid));
	for (;;)
		pause();
	return NULL;
}

/* group: -1 keeps the parent's, 0 makes one. */
static pid_t spawn(const char *name, pid_t group, int with_thread)
{
	pid_t parent = getpid(), pid = fork();
	pthread_t t;

	if (pid < 0)
		exit(1);
	if (pid) {
		wait_for_one();
		if (with_thread)
			wait_for_one();
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, name);
	if (getppid() != parent || (group >= 0 && setpgid(0, group)))
		_exit(1);
	say(name, getpid());
	if (with_thread && pthread_create(&t, NULL, thread, NULL))
		_exit(1);
	for (;;)
		pause();
}

int main(void)
{
	pid_t parent = getpid(), group, leader;

	if (pipe(there))
		return 1;
	leader = fork();
	if (leader < 0)
		return 1;
	if (leader) {
		for (;;)
			pause();
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "leader");
	if (getppid() != parent || setsid() < 0)
		return 1;
	say("leader", getpid());
	wait_for_one();
	spawn("plain", -1, 0);
	group = spawn("group", 0, 0);
	spawn("member", group, 1);
	dprintf(STDOUT_FILENO, "ready\n");
	for (;;)
		pause();
}
