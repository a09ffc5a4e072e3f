/* `key = value` configuration files, described by one table of options per program. */
#ifndef POSTERN_COMMON_CONFIG_H
#define POSTERN_COMMON_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

enum config_type {
	CONFIG_STRING, /* char *: malloc'd */
	CONFIG_PATH, /* char *: malloc'd, relative paths are resolved against the file's folder */
	CONFIG_URL_LIST, /* struct config_list: may be given several times */
	CONFIG_NUMBER, /* uint64_t within [min, max] */
	CONFIG_DURATION, /* uint64_t milliseconds within [min, max]; "500ms", "60s", "5m", "12h",
			    "7d" */
	CONFIG_SIZE, /* uint64_t bytes; "64k", "16m", "1g" */
	CONFIG_BOOL, /* bool: yes|no|true|false|on|off */
	CONFIG_CHOICE, /* int: index into choices */
};

struct config_list {
	char **items;
	size_t count;
};

struct config_option {
	const char *name;
	enum config_type type;
	size_t offset; /* into the program's struct */
	uint64_t min, max;
	const char *const *choices; /* NULL-terminated */
	const char *initial; /* default as text, NULL = none (required if `required`) */
	int required;
	const char *unit;
	const char *help;
};

/* Sets every default, then reads the file: `#` comments, one `key = value` a line. Errors say
 * file:line, the key, the value, what was expected, and suggest the nearest known key. On failure
 * *config is left with nothing allocated. The table ends with a NULL name. Files over 1 MiB are
 * refused. */
enum status config_read(
	const char *path, const struct config_option *options, void *config, struct error *err);
void config_fini(const struct config_option *options, void *config);
/* A commented file with every option at its default, for `init` commands and manuals. */
void config_write_template(const struct config_option *options, FILE *out);

/* The single parsers, also for command lines. */
enum status parse_duration(const char *text, uint64_t *ret_ms, struct error *err);
enum status parse_size(const char *text, uint64_t *ret_bytes, struct error *err);
enum status parse_number(
	const char *text, uint64_t min, uint64_t max, uint64_t *ret_number, struct error *err);
/* "1m30s", "59.9s", "250ms": for people. */
void format_duration(uint64_t ms, char *text, size_t size);
/* Nearest of NULL-terminated `words` to `word` by edit distance, NULL when none is near. */
const char *nearest_word(const char *word, const char *const *words);

#endif
