// SPDX-License-Identifier: GPL-2.0
/*
 * list - a list of random numbers and their square roots, taken down from its
 * end.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/slab.h>

#define MOST	100000

static unsigned int n = 10;
module_param(n, uint, 0444);
MODULE_PARM_DESC(n, "number of nodes, at most 100000 (default: 10)");

struct node {
	struct list_head link;
	unsigned long number;
	unsigned long root;
};

/* On an error the list has the nodes that there was memory for. */
static int __init fill(struct list_head *nodes)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct node *node = kmalloc(sizeof(*node), GFP_KERNEL);

		if (!node)
			return -ENOMEM;
		/* Half of the range, so that it is one number for %ld too. */
		node->number = get_random_long() & LONG_MAX;
		node->root = int_sqrt(node->number);
		list_add_tail(&node->link, nodes);
		pr_info("added %lu\n", node->number);
		cond_resched();
	}
	return 0;
}

/* _safe, because the node is gone when the walk wants to go on from it. */
static unsigned int __init take_down(struct list_head *nodes, bool print)
{
	struct node *node, *next;
	unsigned int freed = 0;

	list_for_each_entry_safe_reverse(node, next, nodes, link) {
		if (print)
			pr_info("number %lu root %lu\n", node->number,
				node->root);
		list_del(&node->link);
		kfree(node);
		freed++;
		cond_resched();
	}
	return freed;
}

static int __init list_init(void)
{
	LIST_HEAD(nodes);
	unsigned int freed;
	int err;

	if (n > MOST)
		return -EINVAL;
	err = fill(&nodes);
	freed = take_down(&nodes, !err);
	pr_info("%u nodes freed\n", freed);
	return err;
}

static void __exit list_exit(void)
{
}

module_init(list_init);
module_exit(list_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Build a list of random numbers, print it in reverse, free it");
