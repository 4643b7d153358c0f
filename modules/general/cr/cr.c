// SPDX-License-Identifier: GPL-2.0
/*
 * cr - the control registers of the CPU that loads the module.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/io.h>
#include <linux/mm_types.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>

/* The kernel's own read_cr8() went in 5.4, when nothing used it any more. */
static unsigned long __init cr_read_cr8(void)
{
	unsigned long value;

	asm volatile("movq %%cr8, %0" : "=r" (value));
	return value;
}

static int __init cr_init(void)
{
	unsigned long cr0, cr2, cr3, cr4, cr8;
	int cpu;

	/* Every CPU has its own: stay on this one until all are read. */
	cpu = get_cpu();
	cr0 = read_cr0();
	cr2 = read_cr2();
	cr3 = __read_cr3();
	cr4 = __read_cr4();
	cr8 = cr_read_cr8();
	put_cpu();

	pr_info("cpu=%d cr0=0x%lx cr2=0x%lx cr3=0x%lx cr4=0x%lx cr8=0x%lx\n",
		cpu, cr0, cr2, cr3, cr4, cr8);
	/* cr3 holds the physical address of the page table of whoever runs. */
	pr_info("page table of %s at 0x%llx\n", current->comm,
		(unsigned long long)virt_to_phys(current->active_mm->pgd));
	pr_info("PAE is %s\n", cr4 & X86_CR4_PAE ? "on" : "off");
	return 0;
}

static void __exit cr_exit(void)
{
}

module_init(cr_init);
module_exit(cr_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the control registers");
