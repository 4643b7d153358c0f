// SPDX-License-Identifier: GPL-2.0
/*
 * mmap - find two texts in the memory of a process, and change them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/highmem.h>
#include <linux/hugetlb_inline.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include <linux/version.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "the process to change");

/* A page that begins with exactly length times from gets to instead. */
static struct mmap_text {
	char from, to;
	unsigned int length;
	unsigned int found;
} mmap_texts[] = {
	{ .from = 'a', .to = 'z', .length = 100 },
	{ .from = 'b', .to = 'y', .length = 200 },
};

/*
 * A thread that has ended has no address space any more. The first may be such a
 * one while others live on: they all have the same.
 */
static struct mm_struct * __init mmap_thread_mm(struct task_struct *task)
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
static struct mm_struct * __init mmap_mm_of(pid_t nr)
{
	struct pid *id = find_get_pid(nr);
	struct task_struct *task = get_pid_task(id, PIDTYPE_PID);
	struct mm_struct *mm;

	put_pid(id);
	if (!task) {
		pr_err("no process %d\n", nr);
		return ERR_PTR(-ESRCH);
	}
	mm = mmap_thread_mm(task);
	put_task_struct(task);
	if (!mm) {
		/* A kernel thread, or a process that has exited. */
		pr_err("process %d has no address space\n", nr);
		return ERR_PTR(-EINVAL);
	}
	return mm;
}

/*
 * Take a reference to one page: put_page() gives it back. pin_user_pages_remote()
 * will not do for looking: it wants a page that no other process shares.
 */
static int __init mmap_get(struct mm_struct *mm, unsigned long addr,
			   unsigned int flags, struct page **page)
{
	long got;

	/* 6.5 took away the last argument but one, vmas. */
#if KERNEL_VERSION(6, 5, 0) <= LINUX_VERSION_CODE
	got = get_user_pages_remote(mm, addr, 1, flags, page, NULL);
#else
	got = get_user_pages_remote(mm, addr, 1, flags, page, NULL, NULL);
#endif
	if (got == 1)
		return 0;
	return got < 0 ? got : -EFAULT;
}

/* The text that the page begins with, NULL if it is none of ours. */
static struct mmap_text * __init mmap_match(struct page *page)
{
	const char *start = kmap_local_page(page);
	struct mmap_text *text, *match = NULL;

	for (text = mmap_texts; text < mmap_texts + ARRAY_SIZE(mmap_texts); text++)
		if (start[text->length] != text->from &&
		    !memchr_inv(start, text->from, text->length))
			match = text;
	kunmap_local(start);
	return match;
}

static void __init mmap_overwrite(struct page *page, struct mmap_text *text)
{
	char *start = kmap_local_page(page);

	memset(start, text->to, text->length);
	flush_dcache_page(page);
	kunmap_local(start);
	text->found++;
}

static int __init mmap_change_page(struct mm_struct *mm, unsigned long addr)
{
	struct mmap_text *text;
	struct page *page;
	int err;

	/* Only look: a page that is absent stays so, or we would fill its memory. */
	if (mmap_get(mm, addr, FOLL_NOFAULT, &page))
		return 0;
	text = mmap_match(page);
	put_page(page);
	if (!text)
		return 0;
	/*
	 * FOLL_WRITE gives the process a copy of its own if it shares the page
	 * with a file or, after fork(), with another process.
	 */
	err = mmap_get(mm, addr, FOLL_WRITE, &page);
	if (err)
		return err;
	/* It may have run on meanwhile. */
	text = mmap_match(page);
	if (text) {
		mmap_overwrite(page, text);
		set_page_dirty_lock(page);
	}
	put_page(page);
	return 0;
}

static int __init mmap_change(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	unsigned long addr;
	int err = 0;
	/* Since 6.1; before, the VMAs were a list, from mm->mmap on by vm_next. */
	VMA_ITERATOR(vmi, mm, 0);

	mmap_read_lock(mm);
	for_each_vma(vmi, vma) {
		/* What it may not write itself is not for us either. */
		if (!(vma->vm_flags & VM_WRITE))
			continue;
		/* For pages of hugetlbfs FOLL_NOFAULT does not hold (in 6.1). */
		if (is_vm_hugetlb_page(vma))
			continue;
		for (addr = vma->vm_start; addr < vma->vm_end; addr += PAGE_SIZE) {
			err = fatal_signal_pending(current) ? -EINTR :
			      mmap_change_page(mm, addr);
			if (err)
				goto out_unlock;
			cond_resched();
		}
	}
out_unlock:
	mmap_read_unlock(mm);
	return err;
}

static int __init mmap_mod_init(void)
{
	struct mm_struct *mm = mmap_mm_of(pid);
	struct mmap_text *text;
	int err;

	if (IS_ERR(mm))
		return PTR_ERR(mm);
	err = mmap_change(mm);
	mmput(mm);
	for (text = mmap_texts; text < mmap_texts + ARRAY_SIZE(mmap_texts); text++)
		pr_info("pid %d: %u pages of '%c' changed to '%c'\n", pid,
			text->found, text->from, text->to);
	return err;
}

static void __exit mmap_mod_exit(void)
{
}

module_init(mmap_mod_init);
module_exit(mmap_mod_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Find and change texts in the memory of a process");
