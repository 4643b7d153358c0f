// SPDX-License-Identifier: GPL-2.0
/*
 * minmax3 - the smallest and the largest of three numbers.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/minmax.h>
#include <linux/module.h>

static int a;
module_param(a, int, 0444);
MODULE_PARM_DESC(a, "first number (default: 0)");

static int b;
module_param(b, int, 0444);
MODULE_PARM_DESC(b, "second number (default: 0)");

static int c;
module_param(c, int, 0444);
MODULE_PARM_DESC(c, "third number (default: 0)");

static int __init minmax3_init(void)
{
	pr_info("of %d, %d, %d: min %d, max %d\n", a, b, c,
		min3(a, b, c), max3(a, b, c));
	return 0;
}

static void __exit minmax3_exit(void)
{
}

module_init(minmax3_init);
module_exit(minmax3_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the minimum and maximum of three numbers");
