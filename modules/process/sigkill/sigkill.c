// SPDX-License-Identifier: GPL-2.0
/*
 * sigkill - kill a process from the kernel.
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
MODULE_PARM_DESC(pid, "number of the process to kill");

static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

/*
 * send_sig() is to one task, and the first may have ended while others live on:
 * it keeps the process's number, and acts on no signal any more. So all are sent
 * one. The first that is alive takes the others with it.
 *
 * Its last argument says that the kernel itself sends: nobody is asked for
 * permission, and not even the process 1 could ignore it, whose end is a panic.
 * A kernel thread ignores all signals, so say so.
 */
static int __init kill_process(struct task_struct *task)
{
	struct task_struct *t;
	int err = -ESRCH;

	if (is_global_init(task) || (task->flags & PF_KTHREAD))
		return -EPERM;
	rcu_read_lock();
	for_each_thread(task, t)
		if (!send_sig(SIGKILL, t, 1))
			err = 0;
	rcu_read_unlock();
	return err;
}

static int __init sigkill_init(void)
{
	struct task_struct *task = find_task(pid);
	char name[TASK_COMM_LEN];
	int err;

	if (!task)
		return -ESRCH;
	get_task_comm(name, task);
	err = kill_process(task);
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
