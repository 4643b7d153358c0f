// SPDX-License-Identifier: GPL-2.0
/*
 * kthread_cpu_helper - what a thread does in a second, and its processor in that
 * or some more, and whether the thread can be moved away.
 *
 *	kthread_cpu_helper PID CPU
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENOUGH	20	/* ticks in which the processor is seen to be busy */

static FILE *open_or_die(const char *name)
{
	FILE *f = fopen(name, "r");

	if (!f) {
		perror(name);
		exit(1);
	}
	return f;
}

/* System time of a thread, in ticks: field 15 of stat. */
static long thread_ticks(int pid)
{
	char name[64], line[1024] = "", *p;
	long value = -1;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	f = open_or_die(name);
	p = fgets(line, sizeof(line), f);
	fclose(f);
	p = p ? strrchr(line, ')') : NULL;
	if (p)
		sscanf(p, ") %*c %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %ld",
		       &value);
	return value;
}

/* System time of a processor, in ticks. */
static long cpu_ticks(int cpu)
{
	FILE *f = open_or_die("/proc/stat");
	char line[4096], format[64];
	long value = -1;

	snprintf(format, sizeof(format), "cpu%d %%*d %%*d %%ld", cpu);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, format, &value) == 1)
			break;
	fclose(f);
	return value;
}

int main(int argc, char **argv)
{
	struct timespec second = { .tv_sec = 1 };
	long thread, processor;
	cpu_set_t others;
	int pid, cpu, i;

	if (argc != 3) {
		fprintf(stderr, "usage: kthread_cpu_helper PID CPU\n");
		return 2;
	}
	pid = atoi(argv[1]);
	cpu = atoi(argv[2]);
	CPU_ZERO(&others);
	for (i = 0; i < 64; i++)
		if (i != cpu)
			CPU_SET(i, &others);
	if (sched_setaffinity(pid, sizeof(others), &others))
		printf("affinity: %s\n", errno == EINVAL ? "EINVAL" :
		       strerror(errno));
	else
		printf("affinity: moved\n");
	thread = thread_ticks(pid);
	processor = cpu_ticks(cpu);
	clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL);
	thread = thread_ticks(pid) - thread;
	/* A virtual processor that its host keeps waiting misses ticks. */
	for (i = 0; i < 10 && cpu_ticks(cpu) < processor + ENOUGH; i++)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL);
	printf("thread=%ld cpu=%ld\n", thread, cpu_ticks(cpu) - processor);
	return 0;
}
