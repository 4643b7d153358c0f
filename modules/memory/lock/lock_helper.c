// SPDX-License-Identifier: GPL-2.0
/*
 * lock_helper KIND [ended] - say where one byte of memory of that kind is, and
 * write to it for ever. With "ended" another thread does so, and the first ends.
 *
 * Once it has said so it writes to nothing else, not even to the stack: so the
 * process dies only if that very page is protected.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE	(2UL << 20)

static char data[8192];

static char *map(unsigned long size, int flags, int fd)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static char *have(const char *kind, char *stack)
{
	char *p;

	if (!strcmp(kind, "stack"))
		return stack;
	if (!strcmp(kind, "data"))
		return data + sizeof(data) / 2;
	if (!strcmp(kind, "private"))
		return map(8192, MAP_PRIVATE | MAP_ANONYMOUS, -1) + 4096;
	if (!strcmp(kind, "shared"))
		return map(8192, MAP_SHARED | MAP_ANONYMOUS, -1) + 4096;
	if (!strcmp(kind, "file"))
		return map(4096, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY));
	if (!strcmp(kind, "huge")) {
		p = map(2 * HUGE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		p = (char *)(((unsigned long)p + HUGE - 1) & ~(HUGE - 1));
		if (madvise(p, HUGE, MADV_HUGEPAGE))
			exit(1);
		return p + HUGE / 2;
	}
	if (!strcmp(kind, "hugetlb"))
		return map(HUGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	exit(2);
}

/* Nothing but two machine instructions between the system call and the end. */
static void *say_and_write(void *byte)
{
	char text[64];
	long n = snprintf(text, sizeof(text), "writes to %lx\n",
			  (unsigned long)byte);

	asm volatile("syscall\n"
		     "1:	incb (%[byte])\n"
		     "	jmp 1b"
		     :
		     : "a" ((long)SYS_write), "D" (1L), "S" (text), "d" (n),
		       [byte] "r" (byte)
		     : "rcx", "r11", "memory");
	return NULL;
}

int main(int argc, char **argv)
{
	char *byte;
	char stack[64];
	pthread_t t;

	if (argc < 2)
		return 2;
	/*
	 * With restartable sequences the kernel writes to the process's memory
	 * whenever it was preempted, and kills it if it cannot.
	 */
	if (!getenv("GLIBC_TUNABLES")) {
		setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
		execv("/proc/self/exe", argv);
		return 1;
	}
	byte = have(argv[1], stack);
	*byte = 1;
	if (argc > 2) {
		if (pthread_create(&t, NULL, say_and_write, byte))
			return 1;
		syscall(SYS_exit, 0);	/* this thread only */
	}
	say_and_write(byte);
	return 1;
}
