// SPDX-License-Identifier: GPL-2.0
/*
 * kthread_cpu - a kernel thread that keeps one processor busy.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/smp.h>

#define LONGEST	86400

static int cpu;
module_param(cpu, int, 0444);
MODULE_PARM_DESC(cpu, "processor to keep busy (default: 0)");

static unsigned int secs = 10;
module_param(secs, uint, 0444);
MODULE_PARM_DESC(secs, "for how long, 1 to 86400 seconds (default: 10)");

static struct task_struct *thread;

/*
 * The time is ktime_get(), which only goes forward. getnstimeofday64(), gone
 * since 5.0, was the wall clock's (today ktime_get_real_ts64()), and that jumps
 * when somebody sets it.
 *
 * Without cond_resched() nothing else would get this processor on a kernel that
 * does not preempt itself; after 21 seconds RCU would complain.
 */
static int burn(void *unused)
{
	ktime_t start = ktime_get();
	ktime_t end = ktime_add_ms(start, 1000LL * secs);
	unsigned long rounds = 0, elsewhere = 0;

	pr_info("thread %d is busy on CPU %d\n", task_pid_nr(current),
		raw_smp_processor_id());
	while (!kthread_should_stop() && ktime_before(ktime_get(), end)) {
		rounds++;
		if (raw_smp_processor_id() != cpu)
			elsewhere++;
		cond_resched();
	}
	pr_info("%lu rounds in %lld ms, %lu of them on another CPU\n", rounds,
		ktime_ms_delta(ktime_get(), start), elsewhere);
	return 0;
}

/* A thread can be bound before it runs for the first time, not later. */
static int __init make_thread(void)
{
	struct task_struct *task = kthread_create(burn, NULL, "busy/%d", cpu);

	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, cpu);
	/* It may end before kthread_stop() asks it to; keep what that needs. */
	thread = get_task_struct(task);
	wake_up_process(task);
	return 0;
}

static int __init kthread_cpu_init(void)
{
	int err = -EINVAL;

	if (secs < 1 || secs > LONGEST)
		return err;
	/* No processor comes or goes between the question and the binding. */
	cpus_read_lock();
	if (cpu >= 0 && cpu < nr_cpu_ids && cpu_online(cpu))
		err = make_thread();
	cpus_read_unlock();
	return err;
}

static void __exit kthread_cpu_exit(void)
{
	kthread_stop(thread);
	put_task_struct(thread);
}

module_init(kthread_cpu_init);
module_exit(kthread_cpu_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("A kernel thread that is bound to a processor and keeps it busy");
