// SPDX-License-Identifier: GPL-2.0
/*
 * family_helper - a family, and what /proc says of it.
 *
 *	family_helper tree DEPTH SIBLINGS CHILDREN
 *		a chain of DEPTH processes; the last of them has SIBLINGS
 *		children and one more, "target". That one has CHILDREN, another
 *		by its second thread, a zombie, and a grandchild.
 *	family_helper scan PID
 *		print the ancestors, siblings and children of a process
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that ends with its parent, and a fork() that cannot fail. */
static pid_t spawn(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

static void sleep_for_ever(void)
{
	for (;;)
		pause();
}

static void leaves(int n)
{
	while (n-- > 0)
		if (!spawn())
			sleep_for_ever();
}

static int threads_child[2], target_ready[2];

static void *second_thread(void *unused)
{
	(void)unused;
	leaves(1);
	if (write(threads_child[1], "", 1) != 1)
		exit(1);
	sleep_for_ever();
	return NULL;
}

static void be_target(int children)
{
	pthread_t thread;
	siginfo_t info;
	pid_t pid;
	char c;

	prctl(PR_SET_NAME, "target");
	leaves(children);
	pid = spawn();
	if (!pid)
		_exit(0);
	if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT) ||
	    pipe(threads_child)) {
		perror("target");
		exit(1);
	}
	pid = spawn();
	if (!pid) {
		leaves(1);
		if (write(threads_child[1], "", 1) != 1)
			_exit(1);
		sleep_for_ever();
	}
	if (read(threads_child[0], &c, 1) != 1 ||
	    pthread_create(&thread, NULL, second_thread, NULL) ||
	    read(threads_child[0], &c, 1) != 1) {
		perror("target");
		exit(1);
	}
	if (write(target_ready[1], "", 1) != 1)
		exit(1);
	sleep_for_ever();
}

static void tree(int depth, int siblings, int children)
{
	int before = siblings / 2;
	pid_t pid;
	char c;

	while (depth-- > 1)
		if (spawn())
			sleep_for_ever();
	leaves(before);
	if (pipe(target_ready))
		exit(1);
	pid = spawn();
	if (!pid)
		be_target(children);
	leaves(siblings - before);
	if (read(target_ready[0], &c, 1) != 1)
		exit(1);
	printf("ready target=%d\n", pid);
	fflush(stdout);
	sleep_for_ever();
}

/* The PPid of a process as /proc has it, -1 if there is none. */
static int parent_of(int pid)
{
	char name[64], line[256];
	int ppid = -1;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	f = fopen(name, "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "PPid: %d", &ppid) == 1)
			break;
	fclose(f);
	return ppid;
}

static void scan(int pid)
{
	int parent = parent_of(pid), up = pid;
	struct dirent *d;
	DIR *dir = opendir("/proc");

	while (up > 0) {
		up = parent_of(up);
		if (up >= 0)
			printf("ancestor %d\n", up);
	}
	while (dir && (d = readdir(dir))) {
		int other = atoi(d->d_name);

		if (other <= 0 || other == getpid())
			continue;
		if (parent_of(other) == pid)
			printf("child %d\n", other);
		if (parent_of(other) == parent && other != pid)
			printf("sibling %d\n", other);
	}
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "tree")) {
		tree(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	} else if (argc == 3 && !strcmp(argv[1], "scan")) {
		scan(atoi(argv[2]));
	} else {
		fprintf(stderr, "usage: family_helper tree DEPTH SIBLINGS CHILDREN | scan PID\n");
		return 2;
	}
	return 0;
}
