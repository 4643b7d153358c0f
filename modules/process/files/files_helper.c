// SPDX-License-Identifier: GPL-2.0
/*
 * files_helper - a process with files of all kinds, and the files of a process
 * as /proc has them.
 *
 *	files_helper open HOLE WORD
 *		a child with a terminal as its first three files, and others;
 *		the number HOLE, from 4 to 9, is free
 *	files_helper zombie
 *	files_helper list PID
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void create(const char *dir, const char *name, int keep)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (open(path, O_RDWR | O_CREAT, 0600) < 0)
		die(path);
	if (!keep)
		unlink(path);
}

static void open_all(const char *dir, const char *word, int hole)
{
	char longer[71] = "";
	int p[2];

	create(dir, word, 1);
	memset(longer, 'n', 70);
	create(dir, longer, 1);
	create(dir, "two words, and a comma", 1);
	create(dir, "gone", 0);
	if (pipe(p) || epoll_create1(0) < 0 || memfd_create(word, 0) < 0 ||
	    open(dir, O_RDONLY | O_DIRECTORY) < 0 ||
	    open("/proc/self/status", O_RDONLY) < 0 ||
	    dup2(p[0], 200) < 0 || fcntl(p[0], F_DUPFD, 700) < 0)
		die("files");
	close(hole);
}

static void child(int master, int ready, int hole, const char *word)
{
	char dir[] = "/tmp/filesXXXXXX";
	int i, slave = open(ptsname(master), O_RDWR | O_NOCTTY);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (slave < 0 || !mkdtemp(dir))
		die("child");
	/* Out of the way of the numbers that are to be filled. */
	ready = fcntl(ready, F_DUPFD, 900);
	for (i = 0; i < 3; i++)
		dup2(slave, i);
	for (i = 3; i < 64; i++)
		close(i);
	open_all(dir, word, hole);
	if (write(ready, "", 1) != 1)
		exit(1);
	close(ready);
	for (;;)
		pause();
}

/* The parent keeps the other end of the terminal, or that would be deleted. */
static void open_files(int hole, const char *word)
{
	int ready[2], master = posix_openpt(O_RDWR | O_NOCTTY);
	pid_t pid;
	char c;

	if (master < 0 || grantpt(master) || unlockpt(master) || pipe(ready))
		die("posix_openpt");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		child(master, ready[1], hole, word);
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1 || read(ready[0], &c, 1))
		exit(1);
	printf("ready target=%d terminal=%s\n", pid, ptsname(master));
}

static void make_zombie(void)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid)
		_exit(0);
	if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT))
		die("waitid");
	printf("ready zombie=%d\n", pid);
}

static int by_number(const struct dirent **a, const struct dirent **b)
{
	return atoi((*a)->d_name) - atoi((*b)->d_name);
}

static int no_dots(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static int list(int pid)
{
	char name[64], target[4096];
	struct dirent **d;
	int i, n;

	snprintf(name, sizeof(name), "/proc/%d/fd", pid);
	n = scandir(name, &d, no_dots, by_number);
	if (n < 0 || chdir(name))
		die(name);
	for (i = 0; i < n; i++) {
		ssize_t len = readlink(d[i]->d_name, target, sizeof(target));

		if (len < 0)
			die(d[i]->d_name);
		printf("%s %.*s\n", d[i]->d_name, (int)len, target);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "list"))
		return list(atoi(argv[2]));
	if (argc == 4 && !strcmp(argv[1], "open")) {
		open_files(atoi(argv[2]), argv[3]);
	} else if (argc == 2 && !strcmp(argv[1], "zombie")) {
		make_zombie();
	} else {
		fprintf(stderr, "usage: files_helper open HOLE WORD | zombie | list PID\n");
		return 2;
	}
	fflush(stdout);
	for (;;)
		pause();
}
