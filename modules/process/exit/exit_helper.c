// SPDX-License-Identifier: GPL-2.0
/*
 * exit_helper - children that end in some way, and stay as zombies until a line
 * of input comes; then what waitpid() says of them is printed.
 *
 *	exit_helper exit CODE SIGNAL	end by exit(CODE)
 *	exit_helper kill NUMBER SIGNAL	be killed by signal NUMBER
 *	exit_helper handler CODE FILE	not a child: exit(CODE) when SIGINT comes,
 *					with FILE open
 *
 * SIGNAL is the one that the parent wants to get at the child's end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int code;

static void handler(int sig)
{
	(void)sig;
	_exit(code);
}

static void wait_in_line(void)
{
	char line[64];

	if (!fgets(line, sizeof(line), stdin))
		exit(0);
}

/* clone() as fork() does it, but with another signal at the end. */
static pid_t fork_with(int exit_signal)
{
	return syscall(SYS_clone, exit_signal, NULL, NULL, NULL, 0);
}

static void child(int kill_me, int n)
{
	struct rlimit no_core = { 0, 0 };

	if (!kill_me)
		_exit(n);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(n, SIG_DFL);
	kill(getpid(), n);
	_exit(99);
}

static int parent(int kill_child, int n, int exit_signal)
{
	siginfo_t info;
	int status;
	pid_t pid;

	signal(exit_signal, SIG_IGN);
	if (exit_signal == SIGCHLD)
		signal(SIGCHLD, SIG_DFL);
	pid = fork_with(exit_signal);
	if (!pid)
		child(kill_child, n);
	if (pid < 0 || waitid(P_PID, pid, &info, WEXITED | WNOWAIT | __WALL)) {
		perror("exit_helper");
		return 1;
	}
	printf("child=%d\n", pid);
	fflush(stdout);
	wait_in_line();
	waitpid(pid, &status, __WALL);
	printf("status=%d\n", status);
	return 0;
}

int main(int argc, char **argv)
{
	int sig;

	if (argc == 4 && !strcmp(argv[1], "exit"))
		return parent(0, atoi(argv[2]), atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "kill"))
		return parent(1, atoi(argv[2]), atoi(argv[3]));
	if (argc != 4 || strcmp(argv[1], "handler")) {
		fprintf(stderr, "usage: exit_helper exit CODE SIGNAL | kill NUMBER SIGNAL |\n"
			"	handler CODE FILE\n");
		return 2;
	}
	for (sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	code = atoi(argv[2]);
	signal(SIGINT, handler);
	if (open(argv[3], O_RDONLY) < 0) {
		perror(argv[3]);
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
