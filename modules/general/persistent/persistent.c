// SPDX-License-Identifier: GPL-2.0
/*
 * persistent - a module that is loaded at every boot.
 *
 * There is nothing in the code for it: user space loads it, told so by
 * persistent.conf in /etc/modules-load.d/; see README.md.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>

static int tag;
module_param(tag, int, 0444);
MODULE_PARM_DESC(tag, "a number to recognise the load by (default: 0)");

static int __init persistent_init(void)
{
	/* init runs in the process that called finit_module(2). */
	pr_info("loaded by %s[%d] tag=%d\n", current->comm,
		task_tgid_nr(current), tag);
	return 0;
}

static void __exit persistent_exit(void)
{
	pr_info("unloaded, gone until the next boot\n");
}

module_init(persistent_init);
module_exit(persistent_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Say who loaded it at boot");
