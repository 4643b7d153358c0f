// SPDX-License-Identifier: GPL-2.0
/*
 * mem_values - how deep the page tables are, and how large the pages.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>

/*
 * How many levels this machine walks. CONFIG_PGTABLE_LEVELS is how many the
 * kernel was built for: since 4.17 one kernel for five levels runs on
 * processors with four, and folds the p4d at boot. So ask level by level.
 */
static int __init mem_values_levels(void)
{
	struct mm_struct *mm = current->mm;

	return 5 - mm_p4d_folded(mm) - mm_pud_folded(mm) - mm_pmd_folded(mm);
}

static int __init mem_values_init(void)
{
	pr_info("paging levels: %d\n", mem_values_levels());
	pr_info("page size: %lu\n", PAGE_SIZE);
	pr_info("huge page size: %lu\n", HPAGE_SIZE);
	return 0;
}

static void __exit mem_values_exit(void)
{
}

module_init(mem_values_init);
module_exit(mem_values_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the number of paging levels and the sizes of pages");
