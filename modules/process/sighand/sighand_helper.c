// SPDX-License-Identifier: GPL-2.0
/*
 * sighand_helper - a process with two handlers that differ in everything.
 *
 *	H1, for SIGUSR1, is called with a siginfo_t and blocks SIGHUP meanwhile.
 *	H2, for SIGUSR2, is called without one and blocks SIGQUIT.
 *
 * Another thread gets the signals, as the actions are the whole process's.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* Not printf(), which a handler must not use: it might be interrupted itself. */
static void say(const char *handler, int sig)
{
	sigset_t blocked;

	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	dprintf(STDOUT_FILENO, "%s got %d hup=%d quit=%d\n", handler, sig,
		sigismember(&blocked, SIGHUP), sigismember(&blocked, SIGQUIT));
}

static void first(int sig, siginfo_t *info, void *context)
{
	(void)context;
	/* The sender is outside of our family, and the kernel says who. */
	if (info && info->si_signo == sig && info->si_code == SI_USER)
		say("H1", sig);
	else
		say("H1 without information", sig);
}

static void second(int sig)
{
	say("H2", sig);
}

static void *thread(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}

int main(void)
{
	struct sigaction a1 = { .sa_sigaction = first,
				.sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigaction a2 = { .sa_handler = second };
	pthread_t t;
	sigset_t both;

	sigemptyset(&both);
	sigaddset(&both, SIGUSR1);
	sigaddset(&both, SIGUSR2);
	/* Neither interrupts the other, whose mask it would then report. */
	a1.sa_mask = both;
	sigaddset(&a1.sa_mask, SIGHUP);
	a2.sa_mask = both;
	sigaddset(&a2.sa_mask, SIGQUIT);
	if (sigaction(SIGUSR1, &a1, NULL) || sigaction(SIGUSR2, &a2, NULL) ||
	    pthread_create(&t, NULL, thread, NULL)) {
		perror("sighand_helper");
		return 1;
	}
	pthread_sigmask(SIG_BLOCK, &both, NULL);
	dprintf(STDOUT_FILENO, "ready\n");
	for (;;)
		pause();
}
