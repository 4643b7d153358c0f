// SPDX-License-Identifier: GPL-2.0
/*
 * datetime_helper - the C library's view of the clock.
 *
 *	datetime_helper now			print the seconds since 1970
 *	datetime_helper set SECONDS		set the clock
 *	datetime_helper zone MINUTES_WEST	set the kernel's time zone
 *	datetime_helper read DATE TIME TZ	print what "DATE TIME" in a zone TZ
 *						minutes east of UTC is in seconds,
 *						and its weekday and day of the year
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int print_now(void)
{
	printf("now=%lld\n", (long long)time(NULL));
	return 0;
}

static int set(const char *seconds)
{
	struct timespec ts = { .tv_sec = atoll(seconds) };

	if (clock_settime(CLOCK_REALTIME, &ts)) {
		perror("clock_settime");
		return 1;
	}
	return 0;
}

/* By hand: the C library no longer has a way to set the kernel's zone. */
static int zone(const char *minutes_west)
{
	struct timezone tz = { .tz_minuteswest = atoi(minutes_west) };

	if (syscall(SYS_settimeofday, NULL, &tz)) {
		perror("settimeofday");
		return 1;
	}
	return 0;
}

static int read_back(const char *date, const char *clock, const char *tz)
{
	struct tm tm = { 0 };
	time_t seconds;

	if (sscanf(date, "%d-%d-%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday) != 3 ||
	    sscanf(clock, "%d:%d:%d", &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 3) {
		fprintf(stderr, "not a date and time: %s %s\n", date, clock);
		return 1;
	}
	tm.tm_year -= 1900;
	tm.tm_mon--;
	seconds = timegm(&tm) - atoi(tz) * 60;
	printf("seconds=%lld wday=%d yday=%d\n", (long long)seconds, tm.tm_wday,
	       tm.tm_yday);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "now"))
		return print_now();
	if (argc == 3 && !strcmp(argv[1], "set"))
		return set(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "zone"))
		return zone(argv[2]);
	if (argc == 5 && !strcmp(argv[1], "read"))
		return read_back(argv[2], argv[3], argv[4]);
	fprintf(stderr, "usage: datetime_helper now | set SECONDS | zone MINUTES_WEST |\n"
		"	read DATE TIME TZ\n");
	return 2;
}
