// SPDX-License-Identifier: GPL-2.0
/*
 * cr_oops - oops, for the dump: it has the control registers, as the kernel
 * itself reads them, and a CR2 that everybody knows.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/module.h>

#define ADDRESS	0x123UL

static int __init cr_oops_init(void)
{
	unsigned long address = ADDRESS;

	OPTIMIZER_HIDE_VAR(address);
	WRITE_ONCE(*(u8 *)address, 1);
	return 0;
}

static void __exit cr_oops_exit(void)
{
}

module_init(cr_oops_init);
module_exit(cr_oops_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Oops to have the control registers dumped");
