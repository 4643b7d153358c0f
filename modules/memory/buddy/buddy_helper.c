// SPDX-License-Identifier: GPL-2.0
/*
 * buddy_helper BYTES,BYTES,... - what the tree must look like. It keeps no tree:
 * the pool is a list of blocks from left to right, and the tree is what must
 * have been split for them to be there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL		16384
#define SMALLEST	64

static struct block {
	int size, request, bytes;	/* request 0: free */
} blocks[POOL / SMALLEST] = { { POOL, 0, 0 } };

static int used = 1;

/* Cuts block i into halves, and moves those behind it along. */
static void halve(int i)
{
	memmove(&blocks[i + 2], &blocks[i + 1], (used - i - 1) * sizeof(blocks[0]));
	used++;
	blocks[i].size /= 2;
	blocks[i + 1] = blocks[i];
}

static int serve(int request, int bytes)
{
	int i, best = -1, need = SMALLEST;

	while (need < bytes)
		need *= 2;
	for (i = 0; i < used; i++)
		if (!blocks[i].request && blocks[i].size >= need &&
		    (best < 0 || blocks[i].size < blocks[best].size))
			best = i;
	if (best < 0)
		return 0;
	while (blocks[best].size > need)
		halve(best);
	blocks[best].request = request;
	blocks[best].bytes = bytes;
	return 1;
}

/* Prints the blocks from *i on that are in size bytes at offset, as a tree. */
static void tree(int *i, int offset, int size, int indent)
{
	struct block *b = &blocks[*i];

	printf("%*s%d at %d: ", indent, "", size, offset);
	if (b->size < size) {
		puts("split");
		tree(i, offset, size / 2, indent + 2);
		tree(i, offset + size / 2, size / 2, indent + 2);
		return;
	}
	if (b->request)
		printf("request %d of %d bytes\n", b->request, b->bytes);
	else
		puts("free");
	++*i;
}

int main(int argc, char **argv)
{
	int request = 1, bytes, i = 0, waste = 0;
	char *word = argc == 2 ? strtok(argv[1], ",") : NULL;

	for (; word; word = strtok(NULL, ","), request++) {
		bytes = atoi(word);
		if (!serve(request, bytes)) {
			printf("request %d of %d bytes: no block left\n", request,
			       bytes);
			break;
		}
	}
	tree(&i, 0, POOL, 0);
	for (i = 0; i < used; i++)
		if (blocks[i].request)
			waste += blocks[i].size - blocks[i].bytes;
	printf("waste: %d bytes out of %d\n", waste, POOL);
	return 0;
}
