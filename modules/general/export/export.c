// SPDX-License-Identifier: GPL-2.0
/*
 * export - a parameter that another module can use.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/export.h>
#include <linux/module.h>

#include "export.h"

int export_value = 1;
EXPORT_SYMBOL_GPL(export_value);

/* Others see the symbol export_value, user space the parameter value. */
module_param_named(value, export_value, int, 0644);
MODULE_PARM_DESC(value, "a number for export_2 (default: 1)");

static int __init export_init(void)
{
	pr_info("value is %d\n", READ_ONCE(export_value));
	return 0;
}

static void __exit export_exit(void)
{
}

module_init(export_init);
module_exit(export_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Export a parameter to other modules");
