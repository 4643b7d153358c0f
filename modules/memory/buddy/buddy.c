// SPDX-License-Identifier: GPL-2.0
/*
 * buddy - hand out the memory of four pages by the buddy system.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>

#define ORDER		2
#define POOL		(PAGE_SIZE << ORDER)
#define SMALLEST	64
#define NODES		(2 * POOL / SMALLEST)

/* More than can ever be met, so that one too many is refused here. */
static int requests[2 * POOL / SMALLEST];
static unsigned int count;
module_param_array(requests, int, &count, 0444);
MODULE_PARM_DESC(requests, "how many bytes to ask for, one number for each request");

/*
 * The tree of all blocks. Node 1 is the whole pool, the halves of node n are 2n
 * and 2n + 1: the numbers of buddies differ in the last bit, and those of blocks
 * of one size follow each other.
 */
static struct buddy_node {
	/* NONE: part of a larger block, or split so that the parts count. */
	enum { NONE, FREE, SPLIT, USED } state;
	unsigned int request;	/* its number, from 1 on, if USED */
} nodes[NODES];

static char *pool;

static size_t buddy_size(unsigned int node)
{
	return POOL >> ilog2(node);
}

static size_t buddy_offset(unsigned int node)
{
	return (node - rounddown_pow_of_two(node)) * buddy_size(node);
}

/* The smallest free block that is large enough, 0 if there is none. */
static unsigned int __init buddy_best_fit(size_t size)
{
	unsigned int first, node;

	/* From the smallest size to the largest, and from left to right. */
	for (first = NODES / 2; first; first /= 2)
		for (node = first; node < 2 * first; node++)
			if (nodes[node].state == FREE && buddy_size(node) >= size)
				return node;
	return 0;
}

/* The number of the block for a request, 0 if there is none. */
static unsigned int __init buddy_alloc(size_t size, unsigned int request)
{
	unsigned int node = buddy_best_fit(size);

	if (!node)
		return 0;
	while (buddy_size(node) / 2 >= max_t(size_t, size, SMALLEST)) {
		nodes[node].state = SPLIT;
		node *= 2;
		nodes[node].state = FREE;
		nodes[node ^ 1].state = FREE;
	}
	nodes[node].state = USED;
	nodes[node].request = request;
	return node;
}

/* Free a block, and put it together with its buddy as long as that is free too. */
static void buddy_free(unsigned int node)
{
	nodes[node].state = FREE;
	while (node > 1 && nodes[node ^ 1].state == FREE) {
		nodes[node].state = NONE;
		nodes[node ^ 1].state = NONE;
		node /= 2;
		nodes[node].state = FREE;
	}
}

/* Each block is filled with its request's number, which must still be there. */
static void buddy_free_all(void)
{
	unsigned int node, damaged = 0;
	int size;

	for (node = 1; node < NODES; node++) {
		if (nodes[node].state != USED)
			continue;
		size = requests[nodes[node].request - 1];
		if (memchr_inv(pool + buddy_offset(node), nodes[node].request,
			       size))
			damaged++;
		buddy_free(node);
	}
	pr_info("all freed: %u blocks damaged, %s\n", damaged,
		nodes[1].state == FREE ? "the pool is whole" : "the pool is in pieces");
	free_pages((unsigned long)pool, ORDER);
}

/* Depth first; there are 9 levels at most, so recursion is safe. */
static void __init buddy_dump(unsigned int node)
{
	int indent = 2 * ilog2(node);
	size_t size = buddy_size(node), offset = buddy_offset(node);

	switch (nodes[node].state) {
	case SPLIT:
		pr_info("%*s%zu at %zu: split\n", indent, "", size, offset);
		buddy_dump(2 * node);
		buddy_dump(2 * node + 1);
		break;
	case USED:
		pr_info("%*s%zu at %zu: request %u of %d bytes\n", indent, "",
			size, offset, nodes[node].request,
			requests[nodes[node].request - 1]);
		break;
	case FREE:
		pr_info("%*s%zu at %zu: free\n", indent, "", size, offset);
		break;
	case NONE:
		break;
	}
}

static size_t __init buddy_waste(void)
{
	unsigned int node;
	size_t waste = 0;

	for (node = 1; node < NODES; node++)
		if (nodes[node].state == USED)
			waste += buddy_size(node) -
				 requests[nodes[node].request - 1];
	return waste;
}

/* Nothing is handed out unless every request makes sense. */
static int __init buddy_check(void)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (requests[i] <= 0 || requests[i] > POOL) {
			pr_err("request %u of %d bytes is not from 1 to %lu\n",
			       i + 1, requests[i], POOL);
			return -EINVAL;
		}
	}
	return 0;
}

static int __init buddy_serve(void)
{
	unsigned int i, node;

	for (i = 0; i < count; i++) {
		node = buddy_alloc(requests[i], i + 1);
		if (!node) {
			pr_err("request %u of %d bytes: no block left\n", i + 1,
			       requests[i]);
			return -ENOMEM;
		}
		memset(pool + buddy_offset(node), i + 1, requests[i]);
	}
	return 0;
}

static int __init buddy_init(void)
{
	int err = buddy_check();

	if (err)
		return err;
	pool = (char *)__get_free_pages(GFP_KERNEL, ORDER);
	if (!pool)
		return -ENOMEM;
	nodes[1].state = FREE;

	err = buddy_serve();
	buddy_dump(1);
	pr_info("waste: %zu bytes out of %lu\n", buddy_waste(), POOL);
	if (err)
		buddy_free_all();
	return err;
}

static void __exit buddy_exit(void)
{
	buddy_free_all();
}

module_init(buddy_init);
module_exit(buddy_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Hand out the memory of four pages by the buddy system");
