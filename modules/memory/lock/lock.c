// SPDX-License-Identifier: GPL-2.0
/*
 * lock - write-protect all memory of a process.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/hugetlb_inline.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/smp.h>
#include <linux/version.h>
#include <asm/tlbflush.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "the process to write-protect");

/*
 * A thread that has ended has no address space any more. The first may be such a
 * one while others live on: they all have the same.
 */
static struct mm_struct * __init lock_thread_mm(struct task_struct *task)
{
	struct mm_struct *mm = NULL;
	struct task_struct *t;

	rcu_read_lock();
	for_each_thread(task, t) {
		mm = get_task_mm(t);
		if (mm)
			break;
	}
	rcu_read_unlock();
	return mm;
}

/* The address space of a process, with a reference: mmput() gives it back. */
static struct mm_struct * __init lock_mm_of(pid_t nr)
{
	struct pid *id = find_get_pid(nr);
	struct task_struct *task = get_pid_task(id, PIDTYPE_PID);
	struct mm_struct *mm;

	put_pid(id);
	if (!task) {
		pr_err("no process %d\n", nr);
		return ERR_PTR(-ESRCH);
	}
	mm = lock_thread_mm(task);
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
static pmd_t * __init lock_pmd(struct mm_struct *mm, unsigned long addr,
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

/* Protect a huge page as a whole; false if there is none. */
static bool __init lock_huge(struct mm_struct *mm, pmd_t *pmd, unsigned long addr)
{
	spinlock_t *ptl = pmd_lock(mm, pmd);
	bool huge = pmd_present(*pmd) && pmd_trans_huge(*pmd);

	if (huge && pmd_write(*pmd))
		pmdp_set_wrprotect(mm, addr & HPAGE_MASK, pmd);
	spin_unlock(ptl);
	return huge;
}

/*
 * Lock a table of the last level. That is pte_offset_map_lock(), but since 6.5
 * it is a function that modules cannot call: now a table may be taken away from
 * under mmap_lock, so that it has to look again, and RCU keeps the table until
 * it has.
 */
static spinlock_t * __init lock_table(struct mm_struct *mm, pmd_t *pmd,
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

static void __init lock_unlock_table(spinlock_t *ptl)
{
	spin_unlock(ptl);
	rcu_read_unlock();
}

/* Protect the pages below one entry of the last level but one. */
static void __init lock_pages(struct mm_struct *mm, pmd_t *pmd,
			      unsigned long addr, unsigned long end)
{
	spinlock_t *ptl; /* of the table */
	pmd_t table;
	pte_t *pte;

	if (lock_huge(mm, pmd, addr))
		return;
	ptl = lock_table(mm, pmd, &table);
	if (!ptl)
		return;
	for (; addr < end; addr += PAGE_SIZE) {
		pte = pte_offset_kernel(&table, addr);
		if (pte_present(ptep_get(pte)) && pte_write(ptep_get(pte)))
			ptep_set_wrprotect(mm, addr, pte);
	}
	lock_unlock_table(ptl);
}

/*
 * The VMA says what a page fault may do: no page becomes writable any more.
 * VM_MAYWRITE stays, as after mprotect(): since 6.7 the kernel counts by it who
 * may write to a file.
 */
static void __init lock_flags(struct mm_struct *mm, struct vm_area_struct *vma)
{
	pgprot_t prot = vm_get_page_prot(vma->vm_flags & ~VM_WRITE);

	/* mprotect() keeps such an account too: VmData is what may be written. */
	if ((vma->vm_flags & (VM_WRITE | VM_SHARED | VM_STACK)) == VM_WRITE)
		mm->data_vm -= vma_pages(vma);
	/* Since 6.3 vm_flags may only be changed by functions. */
#if KERNEL_VERSION(6, 3, 0) <= LINUX_VERSION_CODE
	vm_flags_clear(vma, VM_WRITE);
#else
	vma->vm_flags &= ~VM_WRITE;
#endif
	WRITE_ONCE(vma->vm_page_prot, pgprot_modify(vma->vm_page_prot, prot));
}

static void __init lock_vma(struct mm_struct *mm, struct vm_area_struct *vma)
{
	unsigned long addr, next;
	pmd_t *pmd;

	lock_flags(mm, vma);
	/* The entries of pages that are there already say so themselves. */
	for (addr = vma->vm_start; addr < vma->vm_end; addr = next) {
		pmd = lock_pmd(mm, addr, vma->vm_end, &next);
		if (pmd)
			lock_pages(mm, pmd, addr, next);
		cond_resched();
	}
}

/* What would need more than is done here. */
static bool __init lock_supported(struct mm_struct *mm)
{
	VMA_ITERATOR(vmi, mm, 0);
	struct vm_area_struct *vma;

	/* Copies of the page tables elsewhere, as a KVM guest's. */
	if (mm_has_notifiers(mm))
		return false;
	/* hugetlbfs, whose page tables may be shared between processes. */
	for_each_vma(vmi, vma)
		if (is_vm_hugetlb_page(vma))
			return false;
	return true;
}

static void __init lock_flush_tlb(void *unused)
{
	__flush_tlb_all();
}

static int __init lock_all(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	unsigned int count = 0;
	int err = 0;
	/* Since 6.1; before, the VMAs were a list, from mm->mmap on by vm_next. */
	VMA_ITERATOR(vmi, mm, 0);

	mmap_write_lock(mm);
	if (!lock_supported(mm)) {
		err = -EOPNOTSUPP;
		goto out_unlock;
	}
	inc_tlb_flush_pending(mm);
	for_each_vma(vmi, vma) {
		if (!(vma->vm_flags & VM_WRITE))
			continue;
		lock_vma(mm, vma);
		count++;
	}
	/*
	 * Until then a processor may remember that a page was writable.
	 * flush_tlb_mm() is not for modules: all of the TLB, everywhere.
	 */
	on_each_cpu(lock_flush_tlb, NULL, 1);
	dec_tlb_flush_pending(mm);
out_unlock:
	mmap_write_unlock(mm);
	if (!err)
		pr_info("pid %d: %u VMAs write-protected\n", pid, count);
	return err;
}

static int __init lock_init(void)
{
	struct mm_struct *mm = lock_mm_of(pid);
	int err;

	if (IS_ERR(mm))
		return PTR_ERR(mm);
	err = lock_all(mm);
	mmput(mm);
	return err;
}

static void __exit lock_exit(void)
{
}

module_init(lock_init);
module_exit(lock_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Write-protect all memory of a process");
