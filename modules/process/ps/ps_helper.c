// SPDX-License-Identifier: GPL-2.0
/*
 * ps_helper - a process with something in every column, and all of them as
 * /proc has them.
 *
 *	ps_helper busy FILES UID GID PRIORITY
 *		FILES files, user and group, real-time priority, a terminal of
 *		its own, and time spent by a thread that is gone
 *	ps_helper zombie
 *	ps_helper stopped
 *	ps_helper pinned
 *		two, on processors 0 and 1
 *	ps_helper scan
 *		all but workqueues' threads, which come and go, and itself
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PF_WQ_WORKER	0x20	/* include/linux/sched.h */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void *burn(void *unused)
{
	struct rusage r;
	int i;

	(void)unused;
	do {
		for (i = 0; i < 100000; i++)
			__asm__("" : "+r" (i));
		getrusage(RUSAGE_THREAD, &r);
	} while (r.ru_utime.tv_sec + r.ru_stime.tv_sec == 0 &&
		 r.ru_utime.tv_usec + r.ru_stime.tv_usec < 200000);
	return NULL;
}

/* The other end of the terminal is kept by the parent. */
static void take_terminal(const char *slave)
{
	int fd;

	if (setsid() < 0)
		die("setsid");
	fd = open(slave, O_RDWR);
	if (fd < 0 || ioctl(fd, TIOCSCTTY, 0))
		die(slave);
	if (fd > 2)
		close(fd);
}

/* All but one are closed at first, and that one at last. */
static void take_files(int n, int last)
{
	int fd;

	for (fd = 3; fd < 1000; fd++)
		if (fd != last)
			close(fd);
	while (n-- > 3)
		if (open("/dev/null", O_RDONLY) < 0)
			die("/dev/null");
	close(last);
}

static void busy_child(char **argv, const char *slave, int ready)
{
	struct sched_param param = { .sched_priority = atoi(argv[3]) };
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "a (busy) one");
	burn(NULL);
	if (pthread_create(&thread, NULL, burn, NULL))
		die("pthread_create");
	pthread_join(thread, NULL);
	take_terminal(slave);
	if (sched_setscheduler(0, SCHED_FIFO, &param))
		die("sched_setscheduler");
	if (setgroups(0, NULL) || setgid(atoi(argv[2])) || setuid(atoi(argv[1])))
		die("setuid");
	/* The kernel forgets it when the user changes. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (write(ready, "", 1) != 1)
		die("write");
	take_files(atoi(argv[0]), ready);
	for (;;)
		pause();
}

static void busy(char **argv)
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
		busy_child(argv, ptsname(master), ready[1]);
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		exit(1);
	/* End of file: it has all its files, and has closed the pipe. */
	if (read(ready[0], &c, 1))
		exit(1);
	printf("ready target=%d\n", pid);
}

static void make_zombie(void)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid)
		_exit(3);
	if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT))
		die("waitid");
	printf("ready zombie=%d\n", pid);
}

static void make_stopped(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		raise(SIGSTOP);
		_exit(0);
	}
	if (waitpid(pid, NULL, WUNTRACED) != pid)
		die("waitpid");
	printf("ready stopped=%d\n", pid);
}

/* Returns when the child is where it has to stay. */
static pid_t make_pinned(int cpu)
{
	cpu_set_t only;
	int ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CPU_ZERO(&only);
		CPU_SET(cpu, &only);
		if (sched_setaffinity(0, sizeof(only), &only) ||
		    write(ready[1], "", 1) != 1)
			die("sched_setaffinity");
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		exit(1);
	return pid;
}

/* One number of "Uid:" or "Gid:" in status, the real one. */
static long status_number(int pid, const char *key)
{
	char name[64], line[256];
	long value = -1;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	f = fopen(name, "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			value = atol(line + strlen(key));
	fclose(f);
	return value;
}

static void scan_one(int pid)
{
	char name[64], line[1024], *p;
	long field[64] = { 0 };
	int i;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	f = fopen(name, "r");
	if (!f)
		return;
	p = fgets(line, sizeof(line), f);
	fclose(f);
	p = p ? strrchr(p, ')') : NULL;
	if (!p || strlen(p) < 4)
		return;
	p += 3;
	for (i = 4; i < 42; i++)
		field[i] = strtol(p, &p, 10);
	if (field[9] & PF_WQ_WORKER)
		return;
	printf("pid=%d ppid=%ld prio=%ld policy=%ld uid=%ld gid=%ld\n", pid,
	       field[4], field[18], field[41], status_number(pid, "Uid:"),
	       status_number(pid, "Gid:"));
}

static void scan(void)
{
	struct dirent *d;
	DIR *dir = opendir("/proc");

	while (dir && (d = readdir(dir)))
		if (atoi(d->d_name) > 0 && atoi(d->d_name) != getpid())
			scan_one(atoi(d->d_name));
}

int main(int argc, char **argv)
{
	pid_t first, second;

	if (argc == 2 && !strcmp(argv[1], "scan")) {
		scan();
		return 0;
	}
	if (argc == 6 && !strcmp(argv[1], "busy")) {
		busy(argv + 2);
	} else if (argc == 2 && !strcmp(argv[1], "zombie")) {
		make_zombie();
	} else if (argc == 2 && !strcmp(argv[1], "stopped")) {
		make_stopped();
	} else if (argc == 2 && !strcmp(argv[1], "pinned")) {
		first = make_pinned(0);
		second = make_pinned(1);
		printf("ready on0=%d on1=%d\n", first, second);
	} else {
		fprintf(stderr, "usage: ps_helper busy FILES UID GID PRIORITY | zombie |\n"
			"	stopped | pinned | scan\n");
		return 2;
	}
	fflush(stdout);
	for (;;)
		pause();
}
