// SPDX-License-Identifier: GPL-2.0
/*
 * elaptime - how long it takes to put a node into a list.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>

#define MOST	1000000

static unsigned int n = 1000;
module_param(n, uint, 0444);
MODULE_PARM_DESC(n, "number of nodes, at most 1000000 (default: 1000)");

struct node {
	struct list_head link;
	unsigned int number;
};

/* What is timed: allocate a node, fill it in, link it. */
static int __init fill(struct list_head *nodes)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct node *node = kmalloc(sizeof(*node), GFP_KERNEL);

		if (!node)
			return -ENOMEM;
		node->number = i;
		list_add_tail(&node->link, nodes);
		cond_resched();
	}
	return 0;
}

static void __init empty(struct list_head *nodes)
{
	struct node *node, *next;

	list_for_each_entry_safe(node, next, nodes, link) {
		list_del(&node->link);
		kfree(node);
		cond_resched();
	}
}

static int __init elaptime_init(void)
{
	LIST_HEAD(nodes);
	u64 start, total;
	int err;

	if (n > MOST)
		return -EINVAL;
	/*
	 * getnstimeofday() and struct timespec went in 5.6. This clock is
	 * monotonic, and one number: no seconds to carry, no jump when somebody
	 * sets the time.
	 */
	start = ktime_get_ns();
	err = fill(&nodes);
	total = ktime_get_ns() - start;
	empty(&nodes);
	if (err)
		return err;

	if (n)
		pr_info("%u inserts took %llu ns, %llu ns each\n", n, total,
			div_u64(total, n));
	else
		pr_info("no inserts, no average\n");
	return 0;
}

static void __exit elaptime_exit(void)
{
}

module_init(elaptime_init);
module_exit(elaptime_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Measure the average time of an insertion into a list");
