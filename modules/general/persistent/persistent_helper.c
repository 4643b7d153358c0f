// SPDX-License-Identifier: GPL-2.0
/*
 * persistent_helper - install persistent.conf, and do the part of a boot that
 * loads what it says.
 *
 *	persistent_helper install [PARAMETER=VALUE]
 *	persistent_helper boot
 *
 * "boot" does as systemd-modules-load and modprobe: the names come from
 * /etc/modules-load.d/, the parameters from /etc/modprobe.d/, the file from
 * depmod's modules.dep.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LOAD_DIR	"/etc/modules-load.d"
#define OPTIONS_DIR	"/etc/modprobe.d"

/* The text of persistent.conf beside this file, as it was at compile time. */
static const char *configuration(size_t *size)
{
	const char *start, *end;

	__asm__(".pushsection .rodata\n"
		"1:	.incbin \"persistent.conf\"\n"
		"2:	.popsection\n"
		"	lea 1b(%%rip), %0\n"
		"	lea 2b(%%rip), %1"
		: "=&r" (start), "=r" (end));
	*size = end - start;
	return start;
}

static FILE *open_or_die(const char *name, const char *mode)
{
	FILE *f = fopen(name, mode);

	if (!f) {
		perror(name);
		exit(1);
	}
	return f;
}

static FILE *create(const char *dir)
{
	char name[512];

	mkdir("/etc", 0755);
	mkdir(dir, 0755);
	snprintf(name, sizeof(name), "%s/persistent.conf", dir);
	return open_or_die(name, "w");
}

static void close_or_die(FILE *f)
{
	if (fclose(f)) {
		perror("persistent.conf");
		exit(1);
	}
}

static void install(const char *parameter)
{
	FILE *f = create(LOAD_DIR);
	size_t size;
	const char *text = configuration(&size);

	fwrite(text, 1, size, f);
	close_or_die(f);
	if (!parameter)
		return;
	f = create(OPTIONS_DIR);
	fprintf(f, "options persistent %s\n", parameter);
	close_or_die(f);
}

/* The "options NAME ..." lines of one file, added to what is there. */
static void add_options(const char *file, const char *module, char *options,
			size_t size)
{
	FILE *f = open_or_die(file, "r");
	char line[1024];

	while (fgets(line, sizeof(line), f)) {
		char *word = strtok(line, " \t\n");

		if (!word || strcmp(word, "options"))
			continue;
		word = strtok(NULL, " \t\n");
		if (!word || strcmp(word, module))
			continue;
		while ((word = strtok(NULL, " \t\n"))) {
			size_t used = strlen(options);

			snprintf(options + used, size - used, "%s ", word);
		}
	}
	fclose(f);
}

/* Call fn for each NAME.conf in dir. */
static void walk_confs(const char *dir,
		       void (*fn)(const char *file, void *data), void *data)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d && (entry = readdir(d))) {
		char *dot = strrchr(entry->d_name, '.');
		char file[512];

		if (!dot || strcmp(dot, ".conf"))
			continue;
		snprintf(file, sizeof(file), "%s/%s", dir, entry->d_name);
		fn(file, data);
	}
	if (d)
		closedir(d);
}

struct parameters {
	const char *module;
	char text[1024];
};

static void options_from(const char *file, void *data)
{
	struct parameters *p = data;

	add_options(file, p->module, p->text, sizeof(p->text));
}

/* The module's file, from modules.dep: "extra/NAME.ko: ..." a line. */
static void find_file(const char *module, char *file, size_t size)
{
	struct utsname uts;
	char dep[512], line[4096], base[256];
	FILE *f;

	uname(&uts);
	snprintf(dep, sizeof(dep), "/lib/modules/%s/modules.dep", uts.release);
	snprintf(base, sizeof(base), "%s.ko", module);
	f = open_or_die(dep, "r");
	while (fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');
		char *slash;

		if (!colon)
			continue;
		*colon = '\0';
		slash = strrchr(line, '/');
		if (strcmp(slash ? slash + 1 : line, base))
			continue;
		snprintf(file, size, "/lib/modules/%s/%s", uts.release, line);
		fclose(f);
		return;
	}
	fprintf(stderr, "%s: no %s\n", dep, base);
	exit(1);
}

static void load(const char *module)
{
	struct parameters p = { .module = module };
	char file[8192];
	int fd;

	walk_confs(OPTIONS_DIR, options_from, &p);
	find_file(module, file, sizeof(file));
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, p.text, 0)) {
		perror(file);
		exit(1);
	}
	close(fd);
	printf("loaded %s\n", module);
}

static void load_from(const char *file, void *data)
{
	FILE *f = open_or_die(file, "r");
	char line[256];

	(void)data;
	while (fgets(line, sizeof(line), f)) {
		char *name = strtok(line, " \t\n");

		if (name && *name != '#' && *name != ';')
			load(name);
	}
	fclose(f);
}

int main(int argc, char **argv)
{
	if (argc >= 2 && argc <= 3 && !strcmp(argv[1], "install")) {
		install(argv[2]);
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "boot")) {
		walk_confs(LOAD_DIR, load_from, NULL);
		return 0;
	}
	fprintf(stderr, "usage: persistent_helper install [PARAMETER=VALUE] | boot\n");
	return 2;
}
