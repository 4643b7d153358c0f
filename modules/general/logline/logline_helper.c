// SPDX-License-Identifier: GPL-2.0
/*
 * logline_helper - the longest text that /dev/kmsg takes. The kernel refuses a
 * longer one whole (EINVAL), so try from above.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
	char line[4096];
	int fd = open("/dev/kmsg", O_WRONLY);
	size_t n;

	if (fd < 0) {
		perror("/dev/kmsg");
		return 1;
	}
	memset(line, 'k', sizeof(line));
	for (n = sizeof(line); n > 0; n--) {
		if (write(fd, line, n) == (ssize_t)n) {
			printf("%zu bytes\n", n);
			return 0;
		}
	}
	perror("/dev/kmsg takes nothing");
	return 1;
}
