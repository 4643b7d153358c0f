// SPDX-License-Identifier: GPL-2.0
/*
 * block_kill - a process that cannot be killed.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process");

/*
 * The process, and not a task of it: if another thread calls execve(), that one
 * becomes the process, and the task that was its first ends.
 */
static struct pid *target;

/* lock_task_sighand() by hand, as modules do not get it; see sighand.c. */
static struct sighand_struct *lock_sighand(struct task_struct *task,
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
 * SIGNAL_UNKILLABLE is what makes process 1 immune. With it every signal for
 * which a process has no handler is thrown away as it is sent, SIGKILL and
 * SIGSTOP too, unless the kernel itself sends those.
 *
 * It is in the right place: all flags of signal_struct are changed under the
 * siglock, by everybody. PF_EXITING, the obvious one, is in task->flags, which
 * only the task itself may change: it does so without a lock. And that flag
 * only keeps the task from being woken: the signal waits, and the task dies at
 * its next fork(), which looks at what is waiting.
 */
static int __init make_immune(struct task_struct *task)
{
	struct sighand_struct *sighand;
	unsigned long flags;
	int err = 0;

	if (task->flags & PF_KTHREAD)
		return -EPERM;
	sighand = lock_sighand(task, &flags);
	if (!sighand)
		return -ESRCH;
	if (task->signal->flags & SIGNAL_GROUP_EXIT || task->exit_state)
		err = -ESRCH;
	else if (task->signal->flags & SIGNAL_UNKILLABLE)
		err = -EALREADY;
	else
		task->signal->flags |= SIGNAL_UNKILLABLE;
	spin_unlock_irqrestore(&sighand->siglock, flags);
	return err;
}

/* Nothing waits to be delivered now: what came meanwhile is gone. */
static void make_mortal(struct task_struct *task)
{
	struct sighand_struct *sighand;
	unsigned long flags;

	sighand = lock_sighand(task, &flags);
	if (!sighand)
		return;
	task->signal->flags &= ~SIGNAL_UNKILLABLE;
	spin_unlock_irqrestore(&sighand->siglock, flags);
}

static int __init immunise(struct pid *process)
{
	struct task_struct *task = get_pid_task(process, PIDTYPE_TGID);
	char name[TASK_COMM_LEN];
	int err;

	if (!task)
		return -ESRCH;
	get_task_comm(name, task);
	err = make_immune(task);
	put_task_struct(task);
	if (!err)
		pr_info("%s[%d] is immune\n", name, pid);
	return err;
}

static int __init block_kill_init(void)
{
	int err;

	target = find_get_pid(pid);
	err = immunise(target);
	if (err)
		put_pid(target);
	return err;
}

static void __exit block_kill_exit(void)
{
	struct task_struct *task = get_pid_task(target, PIDTYPE_TGID);

	if (task) {
		make_mortal(task);
		put_task_struct(task);
	}
	put_pid(target);
	pr_info("process %d is mortal\n", pid);
}

module_init(block_kill_init);
module_exit(block_kill_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Make a process immune to signals, even to SIGKILL");
