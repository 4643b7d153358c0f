// SPDX-License-Identifier: GPL-2.0
/*
 * sigkill - kill a process from the kernel.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process to kill");

static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

/*
 * The last argument of send_sig() says that the kernel itself sends: nobody is
 * asked for permission, and not even the process 1 could ignore it, whose end
 * is a panic. A kernel thread ignores all signals, so say so.
 */
static int __init kill_task(struct task_struct *task)
{
	if (is_global_init(task) || (task->flags & PF_KTHREAD))
		return -EPERM;
	return send_sig(SIGKILL, task, 1);
}

static int __init sigkill_init(void)
{
	struct task_struct *task = find_task(pid);
	char name[TASK_COMM_LEN];
	int err;

	if (!task)
		return -ESRCH;
	get_task_comm(name, task);
	err = kill_task(task);
	put_task_struct(task);
	if (err)
		return err;
	pr_info("sent SIGKILL to %s[%d]\n", name, pid);
	return 0;
}

static void __exit sigkill_exit(void)
{
}

module_init(sigkill_init);
module_exit(sigkill_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Send SIGKILL to a process");
