// SPDX-License-Identifier: GPL-2.0
/*
 * family - the ancestors, siblings and children of a process.
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

static void __init show(const char *what, struct task_struct *task)
{
	char name[TASK_COMM_LEN];

	get_task_comm(name, task);
	pr_info("%s %s[%d]\n", what, name, task_tgid_nr(task));
}

/*
 * A parent is the thread that called fork(), so take its process. The idle task
 * is its own parent.
 */
static struct task_struct *__init parent_of(struct task_struct *task)
{
	return rcu_dereference(task->real_parent)->group_leader;
}

static void __init show_ancestors(struct task_struct *task)
{
	struct task_struct *parent = parent_of(task);

	while (parent != task) {
		show("ancestor", parent);
		task = parent;
		parent = parent_of(task);
	}
}

/*
 * The lists "children" and "sibling" belong to tasklist_lock, which modules do
 * not get, and RCU does not cover them. The list of all processes it does
 * cover; so look who has the wanted parent. That is slower and just as right.
 */
static void __init show_children(const char *what, struct task_struct *parent,
				 struct task_struct *except)
{
	struct task_struct *task;

	for_each_process(task)
		if (task != except && parent_of(task) == parent)
			show(what, task);
}

static int __init family_init(void)
{
	struct task_struct *task, *parent;

	/*
	 * All in one section: no task that was found is freed before its end.
	 * PIDTYPE_TGID (since 4.19) finds processes, not their other threads.
	 */
	rcu_read_lock();
	task = pid_task(find_vpid(pid), PIDTYPE_TGID);
	if (!task) {
		rcu_read_unlock();
		return -ESRCH;
	}
	parent = parent_of(task);
	show("process", task);
	show_ancestors(task);
	show_children("sibling", parent, task);
	show_children("child", task, NULL);
	rcu_read_unlock();
	return 0;
}

static void __exit family_exit(void)
{
}

module_init(family_init);
module_exit(family_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the ancestors, siblings and children of a process");
