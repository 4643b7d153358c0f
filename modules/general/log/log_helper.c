// SPDX-License-Identifier: GPL-2.0
/*
 * log_helper - the lines of the module log in the kernel's ring buffer, with
 * the level that the kernel keeps of each in front.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>

#define READ_ALL	3
#define SIZE_BUFFER	10

int main(void)
{
	int size = klogctl(SIZE_BUFFER, NULL, 0);
	char *buffer = size > 0 ? malloc(size + 1) : NULL;
	char *line;

	if (!buffer) {
		perror("klogctl");
		return 1;
	}
	size = klogctl(READ_ALL, buffer, size);
	if (size < 0) {
		perror("klogctl");
		return 1;
	}
	buffer[size] = '\0';

	/* "<6>[    1.234567][   T42] log: level 6, info" */
	for (line = strtok(buffer, "\n"); line; line = strtok(NULL, "\n")) {
		char *text = strstr(line, "] log: ");
		int level;

		if (text && sscanf(line, "<%d>", &level) == 1)
			printf("%d %s\n", level % 8, text + 2);
	}
	return 0;
}
