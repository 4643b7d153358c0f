// SPDX-License-Identifier: GPL-2.0
/*
 * log_console - a console that counts which of log's lines it is given.
 *
 * The kernel hands a console only what its level lets through, the same as to
 * the serial line and the screen. The counts, one for each level, are in
 * /sys/module/log_console/parameters/seen; reading them starts them again at 0.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/console.h>
#include <linux/module.h>
#include <linux/string.h>

#define LEVELS	8

static unsigned int seen[LEVELS];	/* guarded by the console lock */

static void log_console_write(struct console *con, const char *text,
			      unsigned int len)
{
	static const char mark[] = "log: level ";
	const char *found = strnstr(text, mark, len);
	unsigned int level;

	if (!found || found + strlen(mark) >= text + len)
		return;
	level = found[strlen(mark)] - '0';
	if (level < LEVELS)
		seen[level]++;
}

static struct console log_console = {
	.name	= "logcount",
	.write	= log_console_write,
	.flags	= CON_ENABLED,
	.index	= -1,
};

/* Taking the console lock lets the writers end, releasing it prints the rest. */
static int seen_get(char *buffer, const struct kernel_param *kp)
{
	int i, n = 0;

	console_lock();
	console_unlock();
	console_lock();
	for (i = 0; i < LEVELS; i++)
		n += sysfs_emit_at(buffer, n, "%s%u", i ? "," : "", seen[i]);
	memset(seen, 0, sizeof(seen));
	console_unlock();
	return n + sysfs_emit_at(buffer, n, "\n");
}

/*
 * To set it at the load the kernel calls .set without a look whether there is
 * one; it looks only when somebody writes to the file.
 */
static int seen_set(const char *text, const struct kernel_param *kp)
{
	return -EPERM;
}

static const struct kernel_param_ops seen_ops = {
	.set = seen_set,
	.get = seen_get,
};
module_param_cb(seen, &seen_ops, NULL, 0400);
MODULE_PARM_DESC(seen, "lines seen at each level since the last look");

static int __init log_console_init(void)
{
	register_console(&log_console);
	return 0;
}

static void __exit log_console_exit(void)
{
	unregister_console(&log_console);
}

module_init(log_console_init);
module_exit(log_console_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Count the lines of the module log that reach a console");
