// SPDX-License-Identifier: GPL-2.0
/*
 * search_once - a module whose init function is freed after loading.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

static int runs;
module_param(runs, int, 0444);
MODULE_PARM_DESC(runs, "how often init has run, not counting what is given here");

static int __init search_once_init(void)
{
	runs++;
	pr_info("init run %d\n", runs);
	return 0;
}

static void __exit search_once_exit(void)
{
}

module_init(search_once_init);
module_exit(search_once_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Have an init function that is freed after loading");
