// SPDX-License-Identifier: GPL-2.0
/*
 * types - the C types behind pid_t, uid_t, gid_t, size_t, ptrdiff_t, time and
 * atomic_t.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/time64.h>
#include <linux/types.h>

/*
 * The compiler's own verdict: sizeof() could not tell long from long long, nor
 * int from unsigned int.
 */
#define NAME_OF(type)							\
	(__builtin_types_compatible_p(type, int) ? "int" :		\
	 __builtin_types_compatible_p(type, unsigned int) ? "unsigned int" : \
	 __builtin_types_compatible_p(type, long) ? "long" :		\
	 __builtin_types_compatible_p(type, unsigned long) ? "unsigned long" : \
	 __builtin_types_compatible_p(type, long long) ? "long long" :	\
	 __builtin_types_compatible_p(type, unsigned long long) ?	\
		"unsigned long long" : "something else")

#define SHOW(type)							\
	pr_info("%s is %s, %zu bytes\n", #type, NAME_OF(type), sizeof(type))

static int __init types_init(void)
{
	SHOW(pid_t);
	SHOW(uid_t);
	SHOW(gid_t);
	SHOW(size_t);
	SHOW(ptrdiff_t);
	/*
	 * The kernel has no time_t any more: 5.6 removed it with the rest of the
	 * 32-bit time types. time64_t is 64 bits wide on every machine.
	 */
	SHOW(time64_t);
	/* A struct, so that nobody adds to it without atomic_add(). */
	pr_info("atomic_t is struct { %s }, %zu bytes\n",
		NAME_OF(typeof(((atomic_t *)NULL)->counter)), sizeof(atomic_t));
	return 0;
}

static void __exit types_exit(void)
{
}

module_init(types_init);
module_exit(types_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the C types behind the kernel's basic typedefs");
