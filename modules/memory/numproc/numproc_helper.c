// SPDX-License-Identifier: GPL-2.0
/*
 * numproc_helper SLEEPERS ZOMBIES THREADS - have that many children that
 * sleep, that many that are dead and not yet waited for, and threads of its
 * own. Then count, for every line of input, what /proc/PID/stat says; but the
 * line "end" means to end, the children first.
 */
#include <ctype.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PF_KTHREAD	0x00200000

static void *sleeper(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static pid_t child(int sleeps)
{
	pid_t pid = fork();

	if (pid < 0)
		exit(1);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (sleeps)
			sleeper(NULL);
		_exit(0);
	}
	/* Wait until it is a zombie, and leave it one. */
	if (!sleeps)
		waitid(P_PID, pid, NULL, WEXITED | WNOWAIT);
	return pid;
}

/* Nobody counts them any more when this has returned. */
static void end_children(const pid_t *children, int n)
{
	int i;

	for (i = 0; i < n; i++)
		kill(children[i], SIGKILL);
	while (wait(NULL) > 0)
		;
}

/* The flags of a process, -1 if it is gone: the ninth field, the second is in brackets. */
static long flags_of(const char *pid)
{
	char name[300], text[512], *end;
	unsigned long flags;
	FILE *f;
	size_t n;

	snprintf(name, sizeof(name), "/proc/%s/stat", pid);
	f = fopen(name, "r");
	if (!f)
		return -1;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	end = strrchr(text, ')');
	if (!end || sscanf(end, ") %*c %*d %*d %*d %*d %*d %lu", &flags) != 1)
		return -1;
	return flags;
}

static void count(void)
{
	int processes = 0, kthreads = 0;
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	long flags;

	if (!proc)
		exit(1);
	while ((entry = readdir(proc))) {
		if (!isdigit(entry->d_name[0]))
			continue;
		flags = flags_of(entry->d_name);
		if (flags < 0)
			continue;
		if (flags & PF_KTHREAD)
			kthreads++;
		else
			processes++;
	}
	closedir(proc);
	printf("%d processes, %d kernel threads\n", processes, kthreads);
}

int main(int argc, char **argv)
{
	char line[64];
	int sleepers, n, i;
	pid_t *children;
	pthread_t id;

	if (argc != 4)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	sleepers = atoi(argv[1]);
	n = sleepers + atoi(argv[2]);
	children = calloc(n + 1, sizeof(*children));
	if (!children)
		return 1;
	for (i = 0; i < n; i++)
		children[i] = child(i < sleepers);
	for (i = 0; i < atoi(argv[3]); i++)
		if (pthread_create(&id, NULL, sleeper, NULL))
			return 1;
	puts("ready");
	while (fgets(line, sizeof(line), stdin) && strcmp(line, "end\n"))
		count();
	end_children(children, n);
	return 0;
}
