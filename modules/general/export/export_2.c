// SPDX-License-Identifier: GPL-2.0
/*
 * export_2 - use a variable that lives in another module.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/module.h>

#include "export.h"

/* READ_ONCE: it may be written through sysfs at this very moment. */
static int __init export_2_init(void)
{
	pr_info("value is %d\n", READ_ONCE(export_value));
	return 0;
}

/* No check that export is still there: while we use its symbol it must be. */
static void __exit export_2_exit(void)
{
	pr_info("value was %d at the end\n", READ_ONCE(export_value));
}

module_init(export_2_init);
module_exit(export_2_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Use a parameter that another module exports");
