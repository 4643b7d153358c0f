// SPDX-License-Identifier: GPL-2.0
/*
 * pc - the VMAs of a parent and of its child, and whether they are the same.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>

static int ppid;
module_param(ppid, int, 0444);
MODULE_PARM_DESC(ppid, "the parent");

static int cpid;
module_param(cpid, int, 0444);
MODULE_PARM_DESC(cpid, "its child");

#define SHOWN	(VM_READ | VM_WRITE | VM_EXEC | VM_MAYSHARE)

struct pc_area {
	unsigned long start, end, flags;
};

/* What a process had when it was looked at. */
struct pc_list {
	unsigned int count;
	unsigned long bytes;
	struct pc_area *areas;
};

/* The address space of a process, with a reference: mmput() gives it back. */
static struct mm_struct * __init pc_mm_of(pid_t nr)
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

/* Copy the VMAs: two processes are compared, and one lock at a time is held. */
static int __init pc_copy(struct mm_struct *mm, struct pc_list *list)
{
	struct vm_area_struct *vma;
	struct pc_area *area;
	int err = 0;
	/* Since 6.1; before, the VMAs were a list, from mm->mmap on by vm_next. */
	VMA_ITERATOR(vmi, mm, 0);

	mmap_read_lock(mm);
	list->areas = kvmalloc_array(mm->map_count, sizeof(*area), GFP_KERNEL);
	if (!list->areas) {
		err = -ENOMEM;
		goto out_unlock;
	}
	for_each_vma(vmi, vma) {
		if (WARN_ON_ONCE(list->count == mm->map_count))
			break;
		area = &list->areas[list->count++];
		area->start = vma->vm_start;
		area->end = vma->vm_end;
		area->flags = vma->vm_flags & SHOWN;
		list->bytes += area->end - area->start;
	}
out_unlock:
	mmap_read_unlock(mm);
	return err;
}

static void __init pc_print(const char *who, const struct pc_list *list)
{
	const struct pc_area *area;

	for (area = list->areas; area < list->areas + list->count; area++)
		pr_info("%s %08lx-%08lx %c%c%c%c\n", who, area->start, area->end,
			area->flags & VM_READ ? 'r' : '-',
			area->flags & VM_WRITE ? 'w' : '-',
			area->flags & VM_EXEC ? 'x' : '-',
			area->flags & VM_MAYSHARE ? 's' : 'p');
	pr_info("%s has %u VMAs, %lu kB\n", who, list->count, list->bytes / 1024);
}

static int __init pc_look(pid_t nr, const char *who, struct pc_list *list)
{
	struct mm_struct *mm = pc_mm_of(nr);
	int err;

	if (IS_ERR(mm))
		return PTR_ERR(mm);
	err = pc_copy(mm, list);
	mmput(mm);
	if (!err)
		pc_print(who, list);
	return err;
}

static void __init pc_compare(const struct pc_list *parent,
			      const struct pc_list *child)
{
	unsigned int i, least = min(parent->count, child->count);

	for (i = 0; i < least; i++)
		if (memcmp(&parent->areas[i], &child->areas[i],
			   sizeof(struct pc_area)))
			break;
	if (i < max(parent->count, child->count))
		pr_info("they differ from VMA %u on\n", i + 1);
	else
		pr_info("they are identical\n");
}

static int __init pc_init(void)
{
	struct pc_list parent = {}, child = {};
	int err;

	err = pc_look(ppid, "parent", &parent);
	if (!err)
		err = pc_look(cpid, "child", &child);
	if (!err)
		pc_compare(&parent, &child);
	kvfree(child.areas);
	kvfree(parent.areas);
	return err;
}

static void __exit pc_exit(void)
{
}

module_init(pc_init);
module_exit(pc_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Compare the VMAs of a parent and its child");
