// SPDX-License-Identifier: GPL-2.0
/*
 * lockit_helper - a process that dies of any signal, even if whoever started
 * it ignores some.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLOCKSOURCE \
	"/sys/devices/system/clocksource/clocksource0/current_clocksource"

/*
 * Shortly after it has booted, a kernel changes to its final clocksource, for
 * which all processors must stop at the same moment. One that is stuck does
 * not, and the others wait for it for ever. So let that pass first.
 */
static void wait_for_clocksource(void)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	char name[32];
	int i, n, fd;

	for (i = 0; i < 200; i++) {
		fd = open(CLOCKSOURCE, O_RDONLY);
		if (fd < 0)
			return;
		n = read(fd, name, sizeof(name) - 1);
		close(fd);
		name[n > 0 ? n : 0] = '\0';
		if (strncmp(name, "tsc-early", 9) &&
		    strncmp(name, "refined-jiffies", 15))
			return;
		nanosleep(&pause, NULL);
	}
}

int main(void)
{
	int sig;

	for (sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	wait_for_clocksource();
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
