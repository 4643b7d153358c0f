// SPDX-License-Identifier: GPL-2.0
/*
 * pstree_helper - a tree of processes, and a tree as /proc has it.
 *
 *	pstree_helper grow DEPTH BRANCH
 *		a chain of DEPTH processes below this one; every second link has
 *		BRANCH leaves before the next link and one behind it
 *	pstree_helper show PID
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static pid_t spawn(const char *kind, int depth)
{
	pid_t parent = getpid(), pid = fork();
	char name[16];

	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		snprintf(name, sizeof(name), "%s%d", kind, depth);
		prctl(PR_SET_NAME, name);
	}
	return pid;
}

static void leaves(int n, int depth)
{
	while (n-- > 0)
		if (!spawn("leaf", depth))
			for (;;)
				pause();
}

static void wait_for(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		exit(1);
}

/* Each link goes on with the next one, and reports when all below are there. */
static void grow(int most, int branch)
{
	int up[2], report = -1, depth;

	for (depth = 0; depth < most; depth++) {
		if (pipe(up)) {
			perror("pipe");
			exit(1);
		}
		leaves(depth % 2 ? branch : 0, depth + 1);
		if (spawn("link", depth + 1))
			break;
		report = up[1];
	}
	if (depth < most) {
		leaves(depth % 2, depth + 1);
		wait_for(up[0]);
	}
	if (report < 0) {
		printf("ready\n");
		fflush(stdout);
	} else if (write(report, "", 1) != 1) {
		exit(1);
	}
	for (;;)
		pause();
}

struct process {
	int pid, ppid;
	char name[32];
};

static struct process all[4096];
static int n;

static void look(int pid)
{
	char name[64], line[1024];
	char *open, *close;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	f = fopen(name, "r");
	if (!f)
		return;
	if (fgets(line, sizeof(line), f) && n < 4096) {
		open = strchr(line, '(');
		close = strrchr(line, ')');
		*close = '\0';
		all[n].pid = pid;
		all[n].ppid = atoi(close + 4);
		snprintf(all[n].name, sizeof(all[n].name), "%s", open + 1);
		n++;
	}
	fclose(f);
}

static int by_pid(const void *a, const void *b)
{
	return ((struct process *)a)->pid - ((struct process *)b)->pid;
}

static void show(int pid, int depth)
{
	int i;

	for (i = 0; i < n; i++)
		if (all[i].pid == pid)
			printf("%*s%s[%d]\n", 2 * depth, "", all[i].name, pid);
	for (i = 0; i < n; i++)
		if (all[i].ppid == pid)
			show(all[i].pid, depth + 1);
}

int main(int argc, char **argv)
{
	struct dirent *d;
	DIR *dir;

	if (argc == 4 && !strcmp(argv[1], "grow"))
		grow(atoi(argv[2]), atoi(argv[3]));
	if (argc != 3 || strcmp(argv[1], "show")) {
		fprintf(stderr, "usage: pstree_helper grow DEPTH BRANCH | show PID\n");
		return 2;
	}
	dir = opendir("/proc");
	while (dir && (d = readdir(dir)))
		if (atoi(d->d_name) > 0)
			look(atoi(d->d_name));
	qsort(all, n, sizeof(all[0]), by_pid);
	show(atoi(argv[2]), 0);
	return 0;
}
