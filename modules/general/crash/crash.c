// SPDX-License-Identifier: GPL-2.0
/*
 * crash - the shortest way to an oops.
 *
 * # insmod crash.ko
 * BUG: kernel NULL pointer dereference, address: 0000000000000000
 * ...
 * Killed
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/module.h>

static int __init crash_init(void)
{
	int *nowhere = NULL;

	/* A compiler that sees the NULL may put a trap in the store's place. */
	OPTIMIZER_HIDE_VAR(nowhere);
	WRITE_ONCE(*nowhere, 1);
	return 0;
}

static void __exit crash_exit(void)
{
}

module_init(crash_init);
module_exit(crash_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Crash by writing to address 0");
