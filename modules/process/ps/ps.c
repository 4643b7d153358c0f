// SPDX-License-Identifier: GPL-2.0
/*
 * ps - all processes, with what the program of that name shows.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cred.h>
#include <linux/err.h>
#include <linux/fdtable.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include <linux/sched/prio.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/tty.h>
#include <linux/uidgid.h>

struct snapshot {
	struct task_struct **tasks;
	unsigned int n;
};

static void __init drop(struct snapshot *s)
{
	while (s->n)
		put_task_struct(s->tasks[--s->n]);
	kvfree(s->tasks);
}

/* False if there are more processes than room. */
static bool __init fill(struct snapshot *s, unsigned int room)
{
	struct task_struct *task;
	bool all = true;

	rcu_read_lock();
	for_each_process(task) {
		all = s->n < room;
		if (!all)
			break;
		s->tasks[s->n++] = get_task_struct(task);
	}
	rcu_read_unlock();
	return all;
}

/*
 * Printing takes long, and nothing may sleep or be freed under
 * rcu_read_lock(). So collect references there, and print afterwards.
 */
static int __init take(struct snapshot *s)
{
	unsigned int room = 64;
	bool all;

	do {
		s->n = 0;
		s->tasks = kvmalloc_array(room, sizeof(*s->tasks), GFP_KERNEL);
		if (!s->tasks)
			return -ENOMEM;
		all = fill(s, room);
		if (!all) {
			drop(s);
			room *= 2;
		}
	} while (!all);
	return 0;
}

/*
 * lock_task_sighand() by hand, as modules do not get it. The sighand_struct may
 * be given up, and even used for another process, until its lock is held and
 * the task still points to it. NULL: the task is gone.
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

struct row {
	u64 utime, stime;
	unsigned int files;
	char tty[64];
};

/*
 * Threads that have ended left their ticks here, which are samples, and the sum
 * as the scheduler knows it: divide the sum as the ticks say.
 */
static void __init add_dead_times(struct signal_struct *sig, struct row *row)
{
	u64 ticks = sig->utime + sig->stime;
	u64 stime = 0;

	if (ticks)
		stime = mul_u64_u64_div_u64(sig->sum_sched_runtime, sig->stime,
					    ticks);
	row->stime += stime;
	row->utime += sig->sum_sched_runtime - stime;
}

/* Under the signal lock are the terminal, and the time of threads that ended. */
static void __init get_signal_part(struct task_struct *task, struct row *row)
{
	struct sighand_struct *sighand;
	unsigned long flags;

	strscpy(row->tty, "-", sizeof(row->tty));
	sighand = lock_sighand(task, &flags);
	if (!sighand)
		return;
	if (task->signal->tty)
		strscpy(row->tty, tty_name(task->signal->tty),
			sizeof(row->tty));
	add_dead_times(task->signal, row);
	spin_unlock_irqrestore(&sighand->siglock, flags);
}

static void __init add_thread_times(struct task_struct *task, struct row *row)
{
	struct task_struct *thread;
	u64 utime, stime;

	rcu_read_lock();
	for_each_thread(task, thread) {
		task_cputime_adjusted(thread, &utime, &stime);
		row->utime += utime;
		row->stime += stime;
	}
	rcu_read_unlock();
}

static int __init count_one(const void *count, struct file *file,
			    unsigned int fd)
{
	++*(unsigned int *)count;
	return 0;
}

/* The lock keeps task->files, which is NULL once the process has ended. */
static unsigned int __init count_files(struct task_struct *task)
{
	unsigned int count = 0;

	task_lock(task);
	if (task->files)
		iterate_fd(task->files, 0, count_one, &count);
	task_unlock(task);
	return count;
}

static u64 __init ticks(u64 ns)
{
	return div_u64(ns, NSEC_PER_SEC / USER_HZ);
}

/*
 * task_state_to_char() knows what to make of task->__state, which was
 * task->state until 5.14, and of the states in which a task ends.
 */
static void __init show(struct task_struct *task)
{
	char name[TASK_COMM_LEN];
	struct row row = {};

	get_task_comm(name, task);
	get_signal_part(task, &row);
	add_thread_times(task, &row);
	row.files = count_files(task);
	pr_info("pid=%d ppid=%d name=%s utime=%llu stime=%llu prio=%d uid=%u gid=%u cpu=%u flags=%x files=%u policy=%u state=%c tty=%s\n",
		task_pid_nr(task), task_ppid_nr(task), name,
		ticks(row.utime), ticks(row.stime),
		READ_ONCE(task->prio) - MAX_RT_PRIO,
		from_kuid_munged(current_user_ns(), task_uid(task)),
		from_kgid_munged(current_user_ns(), task_cred_xxx(task, gid)),
		task_cpu(task), READ_ONCE(task->flags), row.files,
		READ_ONCE(task->policy), task_state_to_char(task), row.tty);
}

static int __init ps_init(void)
{
	struct snapshot all;
	unsigned int i;
	int err = take(&all);

	if (err)
		return err;
	for (i = 0; i < all.n; i++) {
		show(all.tasks[i]);
		cond_resched();
	}
	pr_info("%u processes\n", all.n);
	drop(&all);
	return 0;
}

static void __exit ps_exit(void)
{
}

module_init(ps_init);
module_exit(ps_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print all processes");
