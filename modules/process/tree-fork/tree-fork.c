// SPDX-License-Identifier: GPL-2.0
/*
 * tree-fork - a binary tree of processes, whose leaves share out an array.
 *
 *	tree-fork [-k] DEPTH [ELEMENT,ELEMENT...]
 *
 * Every process above the leaves forks two children and gives each a half of
 * the array; a leaf prints the one element that is left. There must be
 * 2^DEPTH elements; without any they are 0, 1, 2...
 *
 * -k keeps the tree, to look at, until the input ends.
 *
 *	$ tree-fork 2 red,green,blue,grey
 *	103: red
 *	105: blue
 *	104: green
 *	106: grey
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEEPEST	10

static char *elements[1 << DEEPEST];

/*
 * Two pipes for the whole tree: leaves tell the root through one that they are
 * there, and see by the end of the other that they may go.
 */
static int there[2], go[2];

static int leaf(const char *element)
{
	char c;

	/* One write: the lines of many processes do not mix. */
	dprintf(STDOUT_FILENO, "%d: %s\n", getpid(), element);
	if (write(there[1], "", 1) != 1)
		return 1;
	close(there[1]);
	return read(go[0], &c, 1) != 0;
}

static int subtree(char **first, int n);

static pid_t spawn(char **first, int n)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	/* Only the root may hold these ends, or nobody would see an end. */
	close(there[0]);
	close(go[1]);
	_exit(subtree(first, n));
}

/* What there is of a subtree that cannot be whole ends all the same. */
static int reap(void)
{
	int status, bad = 0;

	while (wait(&status) > 0)
		bad |= status != 0;
	return bad;
}

static int subtree(char **first, int n)
{
	pid_t left, right;

	if (n == 1)
		return leaf(*first);
	left = spawn(first, n / 2);
	right = left < 0 ? -1 : spawn(first + n / 2, n / 2);
	if (right < 0)
		perror("fork");
	close(there[1]);
	return reap() | (right < 0);
}

/*
 * The root is a process of the tree, too. It forks as the others do, but stays
 * to wait for the leaves and for the end of the input in between.
 */
static int root(int n, int keep)
{
	char c;
	int i, bad = 0;

	if (n == 1) {
		dprintf(STDOUT_FILENO, "%d: %s\n", getpid(), elements[0]);
	} else {
		bad = spawn(elements, n / 2) < 0 ||
		      spawn(elements + n / 2, n / 2) < 0;
		if (bad)
			perror("fork");
	}
	close(there[1]);
	for (i = 0; n > 1 && i < n; i++)
		if (read(there[0], &c, 1) != 1)
			break;
	bad |= n > 1 && i < n;
	if (keep && !bad) {
		dprintf(STDOUT_FILENO, "%d leaves\n", n);
		while (read(STDIN_FILENO, &c, 1) > 0)
			;
	}
	close(go[1]);
	return reap() | bad;
}

static int explain(void)
{
	fprintf(stderr, "usage: tree-fork [-k] DEPTH [ELEMENT,ELEMENT...]\n"
		"with DEPTH from 0 to %d and 2^DEPTH elements\n", DEEPEST);
	return 2;
}

/* The number of elements, which are cut out of text or made up. */
static int fill(char *text, int n)
{
	static char numbers[1 << DEEPEST][8];
	int i = 0;
	char *word;

	if (!text) {
		for (; i < n; i++) {
			snprintf(numbers[i], sizeof(numbers[i]), "%d", i);
			elements[i] = numbers[i];
		}
		return n;
	}
	for (word = strtok(text, ","); word; word = strtok(NULL, ",")) {
		if (i < n)
			elements[i] = word;
		i++;
	}
	return i;
}

int main(int argc, char **argv)
{
	int keep = argc > 1 && !strcmp(argv[1], "-k");
	char *end;
	long depth;

	argc -= keep;
	argv += keep;
	if (argc < 2 || argc > 3)
		return explain();
	depth = strtol(argv[1], &end, 10);
	if (*end || end == argv[1] || depth < 0 || depth > DEEPEST)
		return explain();
	if (fill(argv[2], 1 << depth) != 1 << depth)
		return explain();
	if (pipe(there) || pipe(go)) {
		perror("pipe");
		return 1;
	}
	return root(1 << depth, keep);
}
