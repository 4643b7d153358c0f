// SPDX-License-Identifier: GPL-2.0
/*
 * metadata - which kernel this module was built for, from the number in which
 * its headers have it; and what else a module says about itself.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/version.h>

static unsigned int code = LINUX_VERSION_CODE;
module_param(code, uint, 0444);
MODULE_PARM_DESC(code, "version code to decode (default: LINUX_VERSION_CODE)");

static int __init metadata_init(void)
{
	/*
	 * Unsigned: as a signed char, the 192 of 6.1.192 would be -64. There are
	 * eight bits for the last number, so 255 means "255 or more" (since 5.12;
	 * before, it ran over into the second).
	 */
	pr_info("%u.%u.%u code=%u\n", code >> 16, (code >> 8) & 0xff,
		code & 0xff, code);
	return 0;
}

static void __exit metadata_exit(void)
{
}

module_init(metadata_init);
module_exit(metadata_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Decode the kernel's version code");
MODULE_VERSION("1.0");
