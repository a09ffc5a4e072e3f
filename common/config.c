/* Reading is two passes over one table: every option gets its default, then every line of the file
 * replaces one. All fields that own memory start as NULL, so config_fini() can undo a reading that
 * failed anywhere. */
#include "common/config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"

#define FILE_CAP (1024 * 1024)
#define LIST_CAP 64
#define OPTIONS_CAP 128

struct reading {
	const char *path;
	const struct config_option *options;
	void *config;
	unsigned lines[OPTIONS_CAP]; /* where option i was given, 0 = not yet */
	struct error *err;
};

static void *field_of(const struct config_option *option, void *config)
{
	return (char *)config + option->offset;
}

/* ---- values ---- */

static bool is_unlimited(const struct config_option *option)
{
	return option->min == 0 && option->max == 0;
}

static void format_limit(
	const struct config_option *option, uint64_t value, char *text, size_t size)
{
	if (option->type == CONFIG_DURATION)
		format_duration(value, text, size);
	else
		snprintf(text, size, "%" PRIu64, value);
}

static enum status check_range(
	const struct config_option *option, uint64_t value, const char *text, struct error *err)
{
	char min[32], max[32];

	if (is_unlimited(option) || (value >= option->min && value <= option->max))
		return STATUS_OK;
	format_limit(option, option->min, min, sizeof(min));
	format_limit(option, option->max, max, sizeof(max));
	return error_set(err, STATUS_INVALID_ARGUMENT, "%.64s is outside %s to %s", text, min, max);
}

static enum status set_number(
	const struct config_option *option, void *config, const char *text, struct error *err)
{
	enum status status = STATUS_OK;
	uint64_t value = 0;

	if (option->type == CONFIG_DURATION)
		status = parse_duration(text, &value, err);
	else if (option->type == CONFIG_SIZE)
		status = parse_size(text, &value, err);
	else
		status = parse_number(text, 0, UINT64_MAX, &value, err);
	if (status == STATUS_OK)
		status = check_range(option, value, text, err);
	if (status == STATUS_OK)
		memcpy(field_of(option, config), &value, sizeof(value));
	return status;
}

static enum status set_bool(
	const struct config_option *option, void *config, const char *text, struct error *err)
{
	static const char *const yes[] = {"yes", "true", "on"},
				 *const no[] = {"no", "false", "off"};
	bool *field = field_of(option, config);

	for (size_t i = 0; i < 3; i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*field = strcmp(text, yes[i]) == 0;
			return STATUS_OK;
		}
	}
	return error_set(err, STATUS_INVALID_ARGUMENT, "\"%.64s\" is neither yes nor no", text);
}

static enum status set_choice(
	const struct config_option *option, void *config, const char *text, struct error *err)
{
	char all[160] = "";
	size_t used = 0;
	int *field = field_of(option, config);

	for (int i = 0; option->choices[i]; i++) {
		if (strcmp(text, option->choices[i]) == 0) {
			*field = i;
			return STATUS_OK;
		}
		if (used < sizeof(all))
			used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s",
				i ? ", " : "", option->choices[i]);
	}
	return error_set(err, STATUS_INVALID_ARGUMENT, "\"%.64s\" is not one of: %s", text, all);
}

static enum status set_text(
	const struct config_option *option, void *config, const char *text, struct error *err)
{
	char **field = field_of(option, config);
	char *copy = strdup(text);

	if (!copy)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	free(*field);
	*field = copy;
	return STATUS_OK;
}

static enum status set_path(const struct config_option *option, void *config, const char *text,
	const char *file, struct error *err)
{
	const char *slash = strrchr(file, '/');
	enum status status;
	char *path;

	if (text[0] == '/' || !slash)
		return set_text(option, config, text, err);
	if (asprintf(&path, "%.*s/%s", (int)(slash - file), file, text) < 0)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	status = set_text(option, config, path, err);
	free(path);
	return status;
}

static enum status append_item(
	struct config_list *list, const char *text, size_t length, struct error *err)
{
	char **items, *copy;

	if (list->count == LIST_CAP)
		return error_set(
			err, STATUS_INVALID_ARGUMENT, "given more than %d times", LIST_CAP);
	items = realloc(list->items, (list->count + 1) * sizeof(*items));
	if (!items)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	list->items = items;
	copy = strndup(text, length);
	if (!copy)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	items[list->count++] = copy;
	return STATUS_OK;
}

static void free_list(struct config_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	list->items = NULL;
	list->count = 0;
}

static enum status append_text(
	const struct config_option *option, void *config, const char *text, struct error *err)
{
	if (strpbrk(text, " \t"))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"\"%.64s\" has white space; give the key once for each value", text);
	return append_item(field_of(option, config), text, strlen(text), err);
}

static enum status set_value(const struct config_option *option, void *config, const char *text,
	const char *file, struct error *err)
{
	switch (option->type) {
	case CONFIG_STRING:
		return set_text(option, config, text, err);
	case CONFIG_PATH:
		return set_path(option, config, text, file, err);
	case CONFIG_URL_LIST:
		return append_text(option, config, text, err);
	case CONFIG_NUMBER:
	case CONFIG_DURATION:
	case CONFIG_SIZE:
		return set_number(option, config, text, err);
	case CONFIG_BOOL:
		return set_bool(option, config, text, err);
	case CONFIG_CHOICE:
		return set_choice(option, config, text, err);
	}
	return STATUS_INTERNAL;
}

/* ---- defaults ---- */

/* A value that owns nothing and means "not set", for options without default. */
static void set_nothing(const struct config_option *option, void *config)
{
	void *field = field_of(option, config);

	switch (option->type) {
	case CONFIG_STRING:
	case CONFIG_PATH:
		memset(field, 0, sizeof(char *));
		break;
	case CONFIG_URL_LIST:
		memset(field, 0, sizeof(struct config_list));
		break;
	case CONFIG_NUMBER:
	case CONFIG_DURATION:
	case CONFIG_SIZE:
		memset(field, 0, sizeof(uint64_t));
		break;
	case CONFIG_BOOL:
		memset(field, 0, sizeof(bool));
		break;
	case CONFIG_CHOICE:
		memset(field, 0, sizeof(int));
		break;
	}
}

/* A list's default is its items separated by spaces. */
static enum status set_default_list(
	const struct config_option *option, void *config, struct error *err)
{
	const char *at = option->initial;
	enum status status = STATUS_OK;
	size_t length;

	while (status == STATUS_OK && *(at += strspn(at, " ")) != '\0') {
		length = strcspn(at, " ");
		status = append_item(field_of(option, config), at, length, err);
		at += length;
	}
	return status;
}

/* Options that the file did not mention. A default that does not parse is our own bug, yet it is
 * reported like one. */
static enum status set_defaults(struct reading *reading)
{
	struct error cause;
	enum status status;

	for (size_t i = 0; reading->options[i].name; i++) {
		const struct config_option *option = &reading->options[i];

		if (reading->lines[i])
			continue;
		if (!option->initial) {
			if (!option->required)
				continue;
			return error_set(reading->err, STATUS_INVALID_ARGUMENT,
				"%s: %s is missing; add the line: %s = ... (%s)", reading->path,
				option->name, option->name, option->help ? option->help : "");
		}
		if (option->type == CONFIG_URL_LIST)
			status = set_default_list(option, reading->config, &cause);
		else
			status = set_value(
				option, reading->config, option->initial, reading->path, &cause);
		if (status != STATUS_OK)
			return error_set(reading->err, status, "%s: default of %s: %s",
				reading->path, option->name, cause.text);
	}
	return STATUS_OK;
}

/* ---- lines ---- */

static char *trim(char *text)
{
	size_t length;

	text += strspn(text, " \t");
	length = strlen(text);
	while (length > 0 && strchr(" \t\r", text[length - 1]))
		text[--length] = '\0';
	return text;
}

/* `#` begins a comment at the start of a line or after white space; elsewhere it belongs to the
 * value. */
static void cut_comment(char *line)
{
	for (char *at = line; *at; at++) {
		if (*at == '#' && (at == line || at[-1] == ' ' || at[-1] == '\t')) {
			*at = '\0';
			return;
		}
	}
}

static enum status unknown_key(struct reading *reading, unsigned number, const char *key)
{
	const char *names[OPTIONS_CAP + 1] = {NULL}, *near;

	for (size_t i = 0; reading->options[i].name; i++)
		names[i] = reading->options[i].name;
	near = nearest_word(key, names);
	return error_set(reading->err, STATUS_INVALID_ARGUMENT,
		near ? "%s:%u: unknown key \"%.64s\"; did you mean \"%s\"?"
		     : "%s:%u: unknown key \"%.64s\"%s",
		reading->path, number, key, near ? near : "");
}

static enum status set_key(
	struct reading *reading, unsigned number, const char *key, const char *value)
{
	const struct config_option *option;
	struct error cause;
	enum status status;
	size_t i = 0;

	while (reading->options[i].name && strcmp(reading->options[i].name, key) != 0)
		i++;
	option = &reading->options[i];
	if (!option->name)
		return unknown_key(reading, number, key);
	if (reading->lines[i] && option->type != CONFIG_URL_LIST)
		return error_set(reading->err, STATUS_INVALID_ARGUMENT,
			"%s:%u: %s was already given in line %u; remove one of the two",
			reading->path, number, key, reading->lines[i]);
	if (*value == '\0')
		return error_set(reading->err, STATUS_INVALID_ARGUMENT,
			"%s:%u: %s has no value; give one or remove the line", reading->path,
			number, key);
	status = set_value(option, reading->config, value, reading->path, &cause);
	if (status != STATUS_OK)
		return error_set(reading->err, status, "%s:%u: %s: %s", reading->path, number, key,
			cause.text);
	reading->lines[i] = number;
	return STATUS_OK;
}

static enum status read_line(struct reading *reading, unsigned number, char *line)
{
	char *equals, *key;

	for (const char *at = line; *at; at++) {
		if (iscntrl((unsigned char)*at) && *at != '\t' && *at != '\r')
			return error_set(reading->err, STATUS_INVALID_ARGUMENT,
				"%s:%u: control byte 0x%02x; this should be a text file",
				reading->path, number, (unsigned char)*at);
	}
	cut_comment(line);
	key = trim(line);
	if (*key == '\0')
		return STATUS_OK;
	equals = strchr(key, '=');
	if (!equals || equals == key)
		return error_set(reading->err, STATUS_INVALID_ARGUMENT,
			"%s:%u: \"%.64s\" is not `key = value`", reading->path, number, key);
	*equals = '\0';
	return set_key(reading, number, trim(key), trim(equals + 1));
}

static enum status read_lines(struct reading *reading, char *text)
{
	enum status status = STATUS_OK;
	unsigned number = 0;
	char *next;

	for (; status == STATUS_OK && text; text = next) {
		next = strchr(text, '\n');
		if (next)
			*next++ = '\0';
		status = read_line(reading, ++number, text);
	}
	return status;
}

/* ---- the three of the header ---- */

enum status config_read(
	const char *path, const struct config_option *options, void *config, struct error *err)
{
	struct reading reading = {.path = path, .options = options, .config = config, .err = err};
	enum status status;
	char *text = NULL;
	size_t size = 0, count = 0;

	for (; options[count].name; count++)
		set_nothing(&options[count], config);
	if (count > OPTIONS_CAP)
		return error_set(err, STATUS_INTERNAL, "config: more than %d options", OPTIONS_CAP);
	status = file_read(path, FILE_CAP, &text, &size, err);
	if (status != STATUS_OK)
		return status;
	if (strlen(text) != size)
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: has zero bytes; this should be a text file", path);
	else
		status = read_lines(&reading, text);
	free(text);
	if (status == STATUS_OK)
		status = set_defaults(&reading);
	if (status != STATUS_OK)
		config_fini(options, config);
	return status;
}

void config_fini(const struct config_option *options, void *config)
{
	for (; options->name; options++) {
		if (options->type == CONFIG_URL_LIST)
			free_list(field_of(options, config));
		else if (options->type == CONFIG_STRING || options->type == CONFIG_PATH)
			free(*(char **)field_of(options, config));
		set_nothing(options, config);
	}
}

static void write_choices(const struct config_option *option, FILE *out)
{
	fputs("# one of:", out);
	for (size_t i = 0; option->choices[i]; i++)
		fprintf(out, " %s", option->choices[i]);
	fputc('\n', out);
}

static void write_range(const struct config_option *option, FILE *out)
{
	char min[32], max[32];

	format_limit(option, option->min, min, sizeof(min));
	format_limit(option, option->max, max, sizeof(max));
	fprintf(out, "# %s to %s%s%s\n", min, max, option->unit ? " " : "",
		option->unit ? option->unit : "");
}

static void write_default(const struct config_option *option, FILE *out)
{
	const char *at = option->initial;
	size_t length;

	if (option->type != CONFIG_URL_LIST || !at || !*at) {
		fprintf(out, "#%s = %s\n\n", option->name, at ? at : "");
		return;
	}
	while (*(at += strspn(at, " ")) != '\0') {
		length = strcspn(at, " ");
		fprintf(out, "#%s = %.*s\n", option->name, (int)length, at);
		at += length;
	}
	fputc('\n', out);
}

void config_write_template(const struct config_option *options, FILE *out)
{
	for (; options->name; options++) {
		bool is_number = options->type == CONFIG_NUMBER ||
			options->type == CONFIG_DURATION || options->type == CONFIG_SIZE;

		if (options->help)
			fprintf(out, "# %s\n", options->help);
		if (options->required && !options->initial)
			fputs("# required\n", out);
		if (options->type == CONFIG_URL_LIST)
			fputs("# may be given several times\n", out);
		if (options->type == CONFIG_CHOICE)
			write_choices(options, out);
		if (is_number && !is_unlimited(options))
			write_range(options, out);
		write_default(options, out);
	}
}
