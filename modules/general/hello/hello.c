// SPDX-License-Identifier: GPL-2.0
/*
 * hello - the first module: say who wrote it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

static char *name = "Tux";
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "name of the author (default: Tux)");

static char *email = "tux@example.org";
module_param(email, charp, 0444);
MODULE_PARM_DESC(email, "e-mail address of the author (default: tux@example.org)");

/*
 * Not __init: the kernel frees .init.text once the module is loaded, and the
 * exercise search_mod calls this function again later.
 */
static int hi(void)
{
	pr_info("Hello, I am %s <%s>\n", name, email);
	return 0;
}

static void __exit bye(void)
{
	pr_info("Goodbye from %s <%s>\n", name, email);
}

module_init(hi);
module_exit(bye);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print a name and an e-mail address on loading and unloading");
