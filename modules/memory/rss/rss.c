// SPDX-License-Identifier: GPL-2.0
/*
 * rss - how much memory a process really has (RSS), counted in its page tables.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/hugetlb_inline.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "the process to measure");

/* The address space of a process, with a reference: mmput() gives it back. */
static struct mm_struct * __init rss_mm_of(pid_t nr)
{
	struct pid *id = find_get_pid(nr);
	struct task_struct *task = get_pid_task(id, PIDTYPE_PID);
	struct mm_struct *mm;

	put_pid(id);
	if (!task) {
		pr_err("no process %d\n", nr);
		return ERR_PTR(-ESRCH);
	}
	mm = get_task_mm(task);
	put_task_struct(task);
	if (!mm) {
		/* A kernel thread, or a process that has exited. */
		pr_err("process %d has no address space\n", nr);
		return ERR_PTR(-EINVAL);
	}
	return mm;
}

/*
 * The entry of the last level but one, or NULL if there is none on the way to
 * it. *next is the end of what this answer holds for.
 */
static pmd_t * __init rss_pmd(struct mm_struct *mm, unsigned long addr,
			      unsigned long end, unsigned long *next)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;

	*next = pgd_addr_end(addr, end);
	if (pgd_none(*pgd) || unlikely(pgd_bad(*pgd)))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	*next = p4d_addr_end(addr, end);
	if (p4d_none(*p4d) || unlikely(p4d_bad(*p4d)))
		return NULL;
	pud = pud_offset(p4d, addr);
	*next = pud_addr_end(addr, end);
	if (pud_none(*pud) || unlikely(pud_bad(*pud)))
		return NULL;
	*next = pmd_addr_end(addr, end);
	return pmd_offset(pud, addr);
}

/* A transparent huge page; but not the one of zeros, which belongs to nobody. */
static bool __init rss_is_huge(struct mm_struct *mm, pmd_t *pmd)
{
	spinlock_t *ptl = pmd_lock(mm, pmd);
	bool huge = false;

	/* What is mapped is of a file or anonymous, except the page of zeros. */
	if (pmd_present(*pmd) && pmd_trans_huge(*pmd))
		huge = READ_ONCE(pmd_page(*pmd)->mapping);
	spin_unlock(ptl);
	return huge;
}

/*
 * Lock a table of the last level. That is pte_offset_map_lock(), but since 6.5
 * it is a function that modules cannot call: now a table may be taken away from
 * under mmap_lock, so that it has to look again, and RCU keeps the table until
 * it has.
 */
static spinlock_t * __init rss_lock_table(struct mm_struct *mm, pmd_t *pmd,
					  pmd_t *table)
{
	spinlock_t *ptl; /* of the table */

	rcu_read_lock();
	for (;;) {
		*table = READ_ONCE(*pmd);
		if (!pmd_present(*table) || pmd_leaf(*table) || pmd_bad(*table))
			break;
		ptl = pte_lockptr(mm, table);
		spin_lock(ptl);
		if (likely(pmd_same(*table, READ_ONCE(*pmd))))
			return ptl;
		spin_unlock(ptl);
	}
	rcu_read_unlock();
	return NULL;
}

static void __init rss_unlock_table(spinlock_t *ptl)
{
	spin_unlock(ptl);
	rcu_read_unlock();
}

/* The pages below one entry of the last level but one. */
static unsigned long __init rss_count(struct mm_struct *mm, pmd_t *pmd,
				      unsigned long addr, unsigned long end)
{
	unsigned long pages = 0;
	spinlock_t *ptl; /* of the table */
	pmd_t table;
	pte_t pte;

	if (rss_is_huge(mm, pmd))
		return (end - addr) / PAGE_SIZE;
	ptl = rss_lock_table(mm, pmd, &table);
	if (!ptl)
		return 0;
	for (; addr < end; addr += PAGE_SIZE) {
		pte = ptep_get(pte_offset_kernel(&table, addr));
		/* Special: the page of zeros, or a device's. */
		if (pte_present(pte) && !pte_special(pte))
			pages++;
	}
	rss_unlock_table(ptl);
	return pages;
}

static unsigned long __init rss_walk(struct mm_struct *mm)
{
	unsigned long addr, next, pages = 0;
	struct vm_area_struct *vma;
	pmd_t *pmd;
	/* Since 6.1; before, the VMAs were a list, from mm->mmap on by vm_next. */
	VMA_ITERATOR(vmi, mm, 0);

	mmap_read_lock(mm);
	for_each_vma(vmi, vma) {
		/*
		 * "pf" in smaps: page frames without a struct page, such as the
		 * vvar page. Pages of hugetlbfs have an account of their own.
		 */
		if (vma->vm_flags & VM_PFNMAP || is_vm_hugetlb_page(vma))
			continue;
		for (addr = vma->vm_start; addr < vma->vm_end; addr = next) {
			pmd = rss_pmd(mm, addr, vma->vm_end, &next);
			if (pmd)
				pages += rss_count(mm, pmd, addr, next);
			cond_resched();
		}
	}
	mmap_read_unlock(mm);
	return pages;
}

static int __init rss_init(void)
{
	struct mm_struct *mm = rss_mm_of(pid);
	unsigned long walked, counted;

	if (IS_ERR(mm))
		return PTR_ERR(mm);
	walked = rss_walk(mm);
	/* What VmRSS in /proc/PID/status says: quick to have, but it lags. */
	counted = get_mm_rss(mm);
	mmput(mm);

	pr_info("pid %d: %lu kB in the page tables\n", pid,
		walked * (PAGE_SIZE / 1024));
	pr_info("pid %d: %lu kB by the counters\n", pid,
		counted * (PAGE_SIZE / 1024));
	return 0;
}

static void __exit rss_exit(void)
{
}

module_init(rss_init);
module_exit(rss_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Count the resident pages of a process in its page tables");
