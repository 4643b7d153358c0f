// SPDX-License-Identifier: GPL-2.0
/*
 * nsyscalls - how many system calls there are, and how many arguments one can
 * have.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/syscalls.h>
#include <asm/unistd.h>

/*
 * The kernel's own list, made from syscall_64.tbl: a line for each number, and
 * sys_ni_syscall, which returns ENOSYS, for a number without an entry point.
 * __SYSCALL_NORETURN came in 6.11, for exit and exit_group.
 */
#define __SYSCALL(number, function) \
	[number] = #function,
#define __SYSCALL_NORETURN		__SYSCALL
static const char * const functions[] __initconst = {
#include <asm/syscalls_64.h>
};

static unsigned int __init count_implemented(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < ARRAY_SIZE(functions); i++)
		n += strcmp(functions[i], "sys_ni_syscall") != 0;
	return n;
}

static int __init nsyscalls_init(void)
{
	/*
	 * 4.17 had the largest number, __NR_syscall_max; it went with the
	 * rewriting of the tables up to 5.14. NR_syscalls is one more.
	 */
	pr_info("64-bit: %d slots, %u implemented\n", NR_syscalls,
		count_implemented());
	pr_info("x32: %d slots\n", X32_NR_syscalls);
	pr_info("ia32: %d slots\n", IA32_NR_syscalls);
	pr_info("at most %d arguments\n", SYSCALL_DEFINE_MAXARGS);
	return 0;
}

static void __exit nsyscalls_exit(void)
{
}

module_init(nsyscalls_init);
module_exit(nsyscalls_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the number of system calls");
