// SPDX-License-Identifier: GPL-2.0
/*
 * pstree - a process and all that come from it, as a tree.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

static int pid = 1;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process at the root (default: 1)");

struct node {
	pid_t pid, parent_pid;
	unsigned int parent;	/* index, once it was found */
	bool found;
	char name[TASK_COMM_LEN];
};

struct forest {
	struct node *nodes;
	unsigned int n;
};

/* False if there are more processes than room. */
static bool __init fill(struct forest *f, unsigned int room)
{
	struct task_struct *task;
	bool all = true;

	rcu_read_lock();
	for_each_process(task) {
		struct node *node = &f->nodes[f->n];

		all = f->n < room;
		if (!all)
			break;
		node->pid = task_pid_nr(task);
		node->parent_pid = task_ppid_nr(task);
		node->found = false;
		get_task_comm(node->name, task);
		f->n++;
	}
	rcu_read_unlock();
	return all;
}

/*
 * The kernel's lists of children belong to tasklist_lock, which modules do not
 * get. So copy who is whose child out of the list of all processes, which RCU
 * covers, and grow the tree from the copy: no lock, no hurry.
 */
static int __init copy(struct forest *f)
{
	unsigned int room = 64;

	for (;;) {
		f->n = 0;
		f->nodes = kvmalloc_array(room, sizeof(*f->nodes), GFP_KERNEL);
		if (!f->nodes)
			return -ENOMEM;
		if (fill(f, room))
			return 0;
		kvfree(f->nodes);
		room *= 2;
	}
}

/* The index of a child at or behind from; n if there is none. */
static unsigned int __init next_child(struct forest *f, unsigned int parent,
				      unsigned int from)
{
	unsigned int i;

	for (i = from; i < f->n; i++)
		if (f->nodes[i].parent_pid == f->nodes[parent].pid &&
		    !f->nodes[i].found)
			break;
	return i;
}

static void __init show(struct forest *f, unsigned int i, unsigned int depth)
{
	f->nodes[i].found = true;
	pr_info("%*s%s[%d]\n", 2 * depth, "", f->nodes[i].name,
		f->nodes[i].pid);
}

/*
 * Depth first, without recursion: the kernel's stack has 16 KiB, and a chain of
 * processes can be long. The way back is in the nodes themselves.
 */
static void __init show_tree(struct forest *f, unsigned int root)
{
	unsigned int here = root, from = 0, depth = 0;

	show(f, root, 0);
	for (;;) {
		unsigned int child = next_child(f, here, from);

		if (child < f->n) {
			show(f, child, ++depth);
			f->nodes[child].parent = here;
			here = child;
			from = 0;
		} else if (here != root) {
			depth--;
			from = here + 1;
			here = f->nodes[here].parent;
		} else {
			return;
		}
		cond_resched();
	}
}

static int __init pstree_init(void)
{
	struct forest f;
	unsigned int root;
	int err;

	err = copy(&f);
	if (err)
		return err;
	for (root = 0; root < f.n; root++)
		if (f.nodes[root].pid == pid)
			break;
	if (root < f.n)
		show_tree(&f, root);
	else
		err = -ESRCH;
	kvfree(f.nodes);
	return err;
}

static void __exit pstree_exit(void)
{
}

module_init(pstree_init);
module_exit(pstree_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the tree of processes below one of them");
