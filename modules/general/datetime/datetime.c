// SPDX-License-Identifier: GPL-2.0
/*
 * datetime - the date and time in a time zone.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/limits.h>
#include <linux/module.h>
#include <linux/time.h>
#include <linux/timekeeping.h>

#define FURTHEST	(14 * 60)	/* Kiribati; nobody is further from UTC */
#define UNSET		INT_MIN

static int tz = UNSET;
module_param(tz, int, 0444);
MODULE_PARM_DESC(tz, "minutes east of UTC, -840 to 840 (default: the kernel's own time zone)");

static int __init datetime_init(void)
{
	time64_t now;
	struct tm tm;

	/* Set by settimeofday(2), and 0 where nobody did. It counts westwards. */
	if (tz == UNSET)
		tz = -sys_tz.tz_minuteswest;
	if (tz < -FURTHEST || tz > FURTHEST)
		return -EINVAL;

	/*
	 * struct timeval, do_gettimeofday() and time_to_tm() went between 5.0
	 * and 5.6; these have 64-bit seconds, so they go on after 2038.
	 */
	now = ktime_get_real_seconds();
	time64_to_tm(now, tz * 60, &tm);
	/* tm counts years from 1900 and months from 0. */
	pr_info("%ld-%02d-%02d %02d:%02d:%02d tz=%d wday=%d yday=%d\n",
		tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		tm.tm_hour, tm.tm_min, tm.tm_sec, tz, tm.tm_wday, tm.tm_yday);
	return 0;
}

static void __exit datetime_exit(void)
{
}

module_init(datetime_init);
module_exit(datetime_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the date and time in a time zone");
