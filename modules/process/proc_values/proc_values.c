// SPDX-License-Identifier: GPL-2.0
/*
 * proc_values - which numbers a process can have.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/threads.h>

/*
 * RESERVED_PIDS of kernel/pid.c, which keeps it to itself: once the numbers
 * have been round, those below it are not given out again.
 */
#define RESERVED	300

#define PID_MAX_FILE	"/proc/sys/kernel/pid_max"

/*
 * The variables pid_max and pid_max_min were never exported, so ask as a
 * program would. kernel_read() takes a kernel buffer; reading into one with
 * set_fs(KERNEL_DS) and vfs_read() ended with set_fs() in 5.10.
 */
static int __init read_pid_max(int *value)
{
	struct file *file;
	char text[16];
	loff_t pos = 0;
	ssize_t n;

	file = filp_open(PID_MAX_FILE, O_RDONLY, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	n = kernel_read(file, text, sizeof(text) - 1, &pos);
	filp_close(file, NULL);
	if (n < 0)
		return n;
	text[n] = '\0';
	return kstrtoint(text, 10, value);
}

static int __init proc_values_init(void)
{
	int pid_max;
	int err = read_pid_max(&pid_max);

	if (err) {
		pr_err("cannot read %s: error %d\n", PID_MAX_FILE, err);
		return err;
	}
	pr_info("pid_max=%d, the highest pid is %d\n", pid_max, pid_max - 1);
	/* The rule that the kernel follows in pid_idr_init() when it boots. */
	pr_info("pid_max is at least %u\n",
		max_t(unsigned int, RESERVED + 1,
		      PIDS_PER_CPU_MIN * num_possible_cpus()));
	pr_info("pids 0 to %d are reserved\n", RESERVED - 1);
	return 0;
}

static void __exit proc_values_exit(void)
{
}

module_init(proc_values_init);
module_exit(proc_values_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the limits of process numbers");
