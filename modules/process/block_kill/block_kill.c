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
 * The task that is the process, with a reference and with the siglock held. If an
 * execve() comes between the two, the task has no sighand any more, and the
 * number leads to another one already; if nobody has the number, the process has
 * ended.
 */
static struct task_struct *lock_process(struct pid *process,
					unsigned long *flags)
{
	struct task_struct *task;

	while ((task = get_pid_task(process, PIDTYPE_TGID))) {
		if (lock_sighand(task, flags))
			break;
		put_task_struct(task);
	}
	return task;
}

/* The reference stays: put_task_struct() gives it back. */
static void unlock_process(struct task_struct *task, unsigned long flags)
{
	spin_unlock_irqrestore(&task->sighand->siglock, flags);
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
 *
 * That the task has ended says nothing of the process, whose other threads may
 * live on. SIGNAL_GROUP_EXIT says that it ends: the last thread sets it, too.
 */
static int __init make_immune(struct task_struct *task)
{
	if (task->flags & PF_KTHREAD)
		return -EPERM;
	if (task->signal->flags & SIGNAL_GROUP_EXIT)
		return -ESRCH;
	if (task->signal->flags & SIGNAL_UNKILLABLE)
		return -EALREADY;
	task->signal->flags |= SIGNAL_UNKILLABLE;
	return 0;
}

/* Nothing waits to be delivered now: what came meanwhile is gone. */
static void make_mortal(struct task_struct *task)
{
	task->signal->flags &= ~SIGNAL_UNKILLABLE;
}

static int __init immunise(struct pid *process)
{
	struct task_struct *task;
	char name[TASK_COMM_LEN];
	unsigned long flags;
	int err;

	task = lock_process(process, &flags);
	if (!task)
		return -ESRCH;
	err = make_immune(task);
	unlock_process(task, flags);
	get_task_comm(name, task);
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
	struct task_struct *task;
	unsigned long flags;

	task = lock_process(target, &flags);
	if (task) {
		make_mortal(task);
		unlock_process(task, flags);
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
