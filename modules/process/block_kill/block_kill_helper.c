// SPDX-License-Identifier: GPL-2.0
/*
 * block_kill_helper - a process that anybody can kill, and that does what may
 * wake a signal that waits.
 *
 * At each line of input it counts on, and says so: "fork" makes a child that
 * ends, and says how; "zombie" makes one and leaves it; "mask" changes the set of
 * blocked signals there and back; "thread" makes a thread and waits for it; "exec"
 * has a thread become the process, running this program anew; "execs" does that
 * again and again until there is a line; "leave" ends the first thread, and another
 * goes on; "fault" writes to a page that may only be read; any other does nothing
 * but count.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *thread(void *unused)
{
	return unused;
}

static void *exec_again(void *how)
{
	execl("/proc/self/exe", "block_kill_helper", how, NULL);
	return NULL;
}

static void exec_by_thread(char *how)
{
	pthread_t t;

	if (!pthread_create(&t, NULL, exec_again, how))
		pthread_join(t, NULL);
}

static int fork_and_wait(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(7);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static pid_t make_zombie(void)
{
	siginfo_t info;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	/* WNOWAIT: wait for its end, but do not take it away. */
	if (pid < 0 || waitid(P_PID, pid, &info, WEXITED | WNOWAIT))
		return -1;
	return pid;
}

static void change_mask(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_SETMASK, &set, NULL);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

/* Not by kill(): the processor complains, and the kernel sends the signal. */
static void fault(void)
{
	*(char *)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
}

static void *serve(void *unused)
{
	static unsigned long count;
	char line[64];
	pthread_t t;

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strcmp(line, "fork"))
			printf("child exited with %d\n", fork_and_wait());
		else if (!strcmp(line, "zombie"))
			printf("zombie=%d\n", make_zombie());
		else if (!strcmp(line, "mask"))
			change_mask();
		else if (!strcmp(line, "thread") &&
			 !pthread_create(&t, NULL, thread, NULL))
			pthread_join(t, NULL);
		else if (!strcmp(line, "exec"))
			exec_by_thread(NULL);
		else if (!strcmp(line, "execs"))
			exec_by_thread(line);
		else if (!strcmp(line, "leave") &&
			 !pthread_create(&t, NULL, serve, NULL))
			syscall(SYS_exit, 0);	/* this thread only */
		else if (!strcmp(line, "fault"))
			fault();
		printf("%s: count %lu\n", line, ++count);
		fflush(stdout);
	}
	return unused;
}

int main(int argc, char **argv)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	int sig;

	if (argc > 1 && !poll(&input, 1, 0))
		exec_by_thread(argv[1]);
	/* What is in a buffer is lost at an execve(). */
	setvbuf(stdin, NULL, _IONBF, 0);
	/* Whoever started it may have them ignored. */
	for (sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	printf("ready\n");
	fflush(stdout);
	serve(NULL);
	return 0;
}
