// SPDX-License-Identifier: GPL-2.0
/*
 * vma - how much address space a process has (VSS), in how many pieces.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "the process to measure");

/* The address space of a process, with a reference: mmput() gives it back. */
static struct mm_struct * __init vma_mm_of(pid_t nr)
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

static void __init vma_measure(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	unsigned long bytes = 0;
	unsigned int count = 0;
	/*
	 * Since 6.1 the VMAs are in a maple tree; before, they were a list, from
	 * mm->mmap on by vm_next. The lock was called mmap_sem until 5.8.
	 */
	VMA_ITERATOR(vmi, mm, 0);

	mmap_read_lock(mm);
	for_each_vma(vmi, vma) {
		count++;
		bytes += vma->vm_end - vma->vm_start;
	}
	mmap_read_unlock(mm);

	pr_info("pid %d: %u VMAs, VSS %lu kB\n", pid, count, bytes / 1024);
}

static int __init vma_mod_init(void)
{
	struct mm_struct *mm = vma_mm_of(pid);

	if (IS_ERR(mm))
		return PTR_ERR(mm);
	vma_measure(mm);
	mmput(mm);
	return 0;
}

static void __exit vma_mod_exit(void)
{
}

module_init(vma_mod_init);
module_exit(vma_mod_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Count the VMAs of a process and their size");
