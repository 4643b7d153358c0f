// SPDX-License-Identifier: GPL-2.0
/*
 * exit - what a process leaves behind for its parent.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process");

static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

/*
 * No lock: a process in the middle of its end may be waiting for any of them,
 * and one number is read at once. Its name would need task_lock(), see lockit.
 */
static int __init exit_init(void)
{
	struct task_struct *task = find_task(pid);

	if (!task)
		return -ESRCH;
	pr_info("process %d: exit_code=%d exit_signal=%d state=%c exiting=%d\n",
		pid, READ_ONCE(task->exit_code), READ_ONCE(task->exit_signal),
		task_state_to_char(task),
		!!(READ_ONCE(task->flags) & PF_EXITING));
	put_task_struct(task);
	return 0;
}

static void __exit exit_exit(void)
{
}

module_init(exit_init);
module_exit(exit_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print exit code and exit signal of a process");
