// SPDX-License-Identifier: GPL-2.0
/*
 * sighand - swap what a process does at SIGUSR1 and at SIGUSR2.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
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
 * lock_task_sighand() by hand, as modules do not get it. The reference keeps
 * the task, but not its sighand_struct, which is given up when the process
 * ends and replaced when it calls execve(). RCU sees to it that there is a lock
 * to take; only once it is held and the task still points to it, is it ours.
 */
static struct sighand_struct *__init lock_sighand(struct task_struct *task,
						  unsigned long *flags)
{
	struct sighand_struct *sighand;

	rcu_read_lock();
	while ((sighand = rcu_dereference(task->sighand))) {
		spin_lock_irqsave(&sighand->siglock, *flags);
		if (sighand == rcu_access_pointer(task->sighand))
			break;
		spin_unlock_irqrestore(&sighand->siglock, *flags);
	}
	rcu_read_unlock();
	return sighand;
}

/*
 * The whole action: a handler goes with its flags (does it want a siginfo_t?)
 * and its mask. Signal n is at index n - 1.
 */
static int __init swap_actions(struct task_struct *task)
{
	struct sighand_struct *sighand;
	unsigned long flags;

	if (task->flags & PF_KTHREAD)
		return -EPERM;
	sighand = lock_sighand(task, &flags);
	if (!sighand)
		return -ESRCH;
	swap(sighand->action[SIGUSR1 - 1], sighand->action[SIGUSR2 - 1]);
	spin_unlock_irqrestore(&sighand->siglock, flags);
	return 0;
}

static int __init sighand_init(void)
{
	struct task_struct *task = find_task(pid);
	char name[TASK_COMM_LEN];
	int err;

	if (!task)
		return -ESRCH;
	get_task_comm(name, task);
	err = swap_actions(task);
	put_task_struct(task);
	if (err)
		return err;
	pr_info("swapped actions of %s[%d]\n", name, pid);
	return 0;
}

static void __exit sighand_exit(void)
{
}

module_init(sighand_init);
module_exit(sighand_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Swap the signal handlers of a process");
