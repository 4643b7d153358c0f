// SPDX-License-Identifier: GPL-2.0
/*
 * log - one line at each level of the kernel log.
 *
 * # echo 4 > /proc/sys/kernel/printk; insmod log.ko
 * log: level 0, emerg
 * log: level 1, alert
 * log: level 2, crit
 * log: level 3, err
 * # dmesg | tail -1
 * log: the console shows levels below 4
 */

/* Without this, pr_debug() compiles to nothing. */
#define DEBUG
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/printk.h>

static int __init log_init(void)
{
	pr_emerg("level 0, emerg\n");
	pr_alert("level 1, alert\n");
	pr_crit("level 2, crit\n");
	pr_err("level 3, err\n");
	pr_warn("level 4, warning\n");
	pr_notice("level 5, notice\n");
	pr_info("level 6, info\n");
	pr_debug("level 7, debug\n");
	pr_info("the console shows levels below %d\n", console_loglevel);
	return 0;
}

static void __exit log_exit(void)
{
}

module_init(log_init);
module_exit(log_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print a line at each log level");
