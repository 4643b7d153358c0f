// SPDX-License-Identifier: GPL-2.0
/*
 * rename - give a process another name.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/string.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process or thread");

static char *name;
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "its new name, of which 15 characters count");

static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

/*
 * What set_task_comm() does, whose __set_task_comm() is not exported. Some read
 * the name without the lock. They may see half of the old one, but never more
 * than sizeof(comm): the last byte is always 0, and strscpy_pad() clears what
 * is left of a longer name.
 */
static void __init set_comm(struct task_struct *task, const char *text)
{
	task_lock(task);
	strscpy_pad(task->comm, text, sizeof(task->comm));
	task_unlock(task);
}

static int __init rename_init(void)
{
	char before[TASK_COMM_LEN], after[TASK_COMM_LEN];
	struct task_struct *task;

	if (!name || !*name)
		return -EINVAL;
	task = find_task(pid);
	if (!task)
		return -ESRCH;
	get_task_comm(before, task);
	set_comm(task, name);
	get_task_comm(after, task);
	put_task_struct(task);
	pr_info("process %d was %s and is %s\n", pid, before, after);
	return 0;
}

static void __exit rename_exit(void)
{
}

module_init(rename_init);
module_exit(rename_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Rename a process");
