// SPDX-License-Identifier: GPL-2.0
/*
 * search_again - a module whose init function can be called any time.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

static int runs;
module_param(runs, int, 0444);
MODULE_PARM_DESC(runs, "how often init has run, not counting what is given here");

/* Not __init: that memory would be freed after loading. */
static int search_again_init(void)
{
	runs++;
	pr_info("init run %d\n", runs);
	return 0;
}

static void __exit search_again_exit(void)
{
}

module_init(search_again_init);
module_exit(search_again_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Count the calls of its own init function");
