// SPDX-License-Identifier: GPL-2.0
/*
 * pids - the other numbers of a process: its group, its session, its leader.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process or thread");

static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

/*
 * Once the numbers hung on the task, in task->pids[]; since 4.19 those of a
 * group and a session are the process's, in signal->pids[], and these functions
 * find them, in the loader's pid namespace. They know of tasks that have just
 * ended, for which they say 0.
 */
static int __init pids_init(void)
{
	struct task_struct *task = find_task(pid);
	char name[TASK_COMM_LEN] = "-";

	if (!task)
		return -ESRCH;
	rcu_read_lock();
	if (pid_alive(task))
		get_task_comm(name, task->group_leader);
	rcu_read_unlock();
	pr_info("pid=%d tgid=%d pgrp=%d session=%d leader=%s\n",
		task_pid_vnr(task), task_tgid_vnr(task), task_pgrp_vnr(task),
		task_session_vnr(task), name);
	put_task_struct(task);
	return 0;
}

static void __exit pids_exit(void)
{
}

module_init(pids_init);
module_exit(pids_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the process group, session and leader of a process");
