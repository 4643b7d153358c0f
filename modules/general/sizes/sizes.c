// SPDX-License-Identifier: GPL-2.0
/*
 * sizes - how many bytes the basic types have on this machine.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/types.h>

#define SHOW(type) pr_info("%s has %zu bytes\n", #type, sizeof(type))

static int __init sizes_init(void)
{
	SHOW(char);
	SHOW(short);
	SHOW(int);
	SHOW(long);
	SHOW(long long);
	SHOW(void *);
	SHOW(int8_t);
	SHOW(uint8_t);
	SHOW(int16_t);
	SHOW(uint16_t);
	SHOW(int32_t);
	SHOW(uint32_t);
	SHOW(int64_t);
	SHOW(uint64_t);
	return 0;
}

static void __exit sizes_exit(void)
{
}

module_init(sizes_init);
module_exit(sizes_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the sizes of the basic C types");
