// SPDX-License-Identifier: GPL-2.0
/*
 * tree_count - count what a process and its descendants are.
 *
 * The exercise is the program tree-fork. This is its judge.
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
MODULE_PARM_DESC(pid, "number of the process at the root");

static struct task_struct *__init parent_of(struct task_struct *task)
{
	return rcu_dereference(task->real_parent)->group_leader;
}

/* How far a task is below the root; -1 if it is not. */
static int __init depth_below(struct task_struct *task,
			      struct task_struct *root)
{
	int depth = 0;

	while (task != root) {
		struct task_struct *parent = parent_of(task);

		if (parent == task)
			return -1;
		task = parent;
		depth++;
	}
	return depth;
}

static unsigned int __init count_children(struct task_struct *parent)
{
	struct task_struct *task;
	unsigned int n = 0;

	for_each_process(task)
		n += task != parent && parent_of(task) == parent;
	return n;
}

static int __init tree_count_init(void)
{
	unsigned int processes = 0, leaves = 0, forks = 0;
	struct task_struct *root, *task;
	int deepest = 0;

	rcu_read_lock();
	root = pid_task(find_vpid(pid), PIDTYPE_TGID);
	if (!root) {
		rcu_read_unlock();
		return -ESRCH;
	}
	for_each_process(task) {
		int depth = depth_below(task, root);

		if (depth < 0)
			continue;
		deepest = max(deepest, depth);
		processes++;
		switch (count_children(task)) {
		case 0:
			leaves++;
			break;
		case 2:
			forks++;
			break;
		}
	}
	rcu_read_unlock();
	pr_info("%u processes, %u without children, %u with two, depth %d\n",
		processes, leaves, forks, deepest);
	return 0;
}

static void __exit tree_count_exit(void)
{
}

module_init(tree_count_init);
module_exit(tree_count_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Count the processes below one of them");
