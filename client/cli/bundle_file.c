/* A line is parsed as if it stood behind 'postern grant request', so its options, their checks and
 * their errors are the very same; only what holds for a whole bundle is not among them. */
#include "client/cli/bundle_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/grant_terms.h"
#include "client/cli/options.h"
#include "client/cli/words.h"

#define WORDS_MAX 256
#define PLACE_SIZE 112
#define LINE_MAX_BYTES 16384 /* a context of 4096 bytes, every one of them quoted, and the rest */

struct line {
	char *text; /* what the terms point into, in the end */
	char place[PLACE_SIZE];
	struct grant_terms terms;
};

struct bundle_file {
	struct line lines[BUNDLE_MAX];
	size_t count;
};

static enum status no_command(struct cli *cli, struct error *err)
{
	(void)cli;
	return error_set(err, STATUS_INTERNAL, "a line of a bundle is no command");
}

static const struct command_spec line_commands[] = {
	{.noun = "grant",
		.verb = "request",
		.options = grant_line_options,
		.summary = "",
		.run = no_command},
	{.noun = NULL},
};

static const struct option_spec no_globals[] = {{.name = NULL}};

struct bundle_file *bundle_file_new(void)
{
	return calloc(1, sizeof(struct bundle_file));
}

void bundle_file_free(struct bundle_file *file)
{
	if (file == NULL)
		return;
	for (size_t i = 0; i < file->count; i++)
		free(file->lines[i].text);
	free(file);
}

static enum status bad_line(const char *place, const struct error *why, struct error *err)
{
	error_field(err, why->field, "%.100s: %.200s", place, why->text);
	return STATUS_INVALID_ARGUMENT;
}

/* "postern grant request" and the line's words. */
static enum status parse_line(
	char *text, struct grant_terms *terms, bool *ret_empty, struct error *err)
{
	char *argv[WORDS_MAX + 3] = {(char[]){"postern"}, (char[]){"grant"}, (char[]){"request"}};
	struct args args;
	size_t count = 0;

	enum status status = words_split(text, WORDS_MAX, argv + 3, &count, err);
	*ret_empty = status == STATUS_OK && count == 0;
	if (status != STATUS_OK || count == 0)
		return status;
	status = args_parse(line_commands, no_globals, (int)count + 3, argv, &args, err);
	return status != STATUS_OK ? status : grant_terms_read(&args, terms, err);
}

enum status bundle_file_add(
	struct bundle_file *file, const char *line, const char *place, struct error *err)
{
	struct line *next = &file->lines[file->count];
	struct grant_terms spare;
	struct error why = {0};
	bool empty = false, full = file->count == BUNDLE_MAX;

	char *text = strdup(line);
	if (text == NULL)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	enum status status = parse_line(text, full ? &spare : &next->terms, &empty, &why);
	if (status == STATUS_OK && !empty && full)
		status = error_set(&why, STATUS_INVALID_ARGUMENT,
			"a bundle holds at most %d grants", BUNDLE_MAX);
	if (status != STATUS_OK || empty) {
		free(text);
		return empty ? STATUS_OK : bad_line(place, &why, err);
	}
	next->text = text;
	snprintf(next->place, sizeof(next->place), "%s", place);
	file->count++;
	return STATUS_OK;
}

enum status bundle_file_check(const struct bundle_file *file, const char *source, struct error *err)
{
	if (file->count != 0)
		return STATUS_OK;
	return error_set(err, STATUS_INVALID_ARGUMENT,
		"%.100s: no grant: write one a line, in the options of 'postern grant request'",
		source);
}

/* Without its newline; *ret_end: there was none left. */
static enum status read_line(
	FILE *in, char line[static LINE_MAX_BYTES], bool *ret_end, struct error *err)
{
	size_t length = 0;
	int c;

	while ((c = getc(in)) != EOF && c != '\n') {
		if (c == '\0')
			return error_set(err, STATUS_INVALID_ARGUMENT, "the line holds a NUL byte");
		if (length + 1 == LINE_MAX_BYTES)
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"the line is longer than %d bytes", LINE_MAX_BYTES - 1);
		line[length++] = (char)c;
	}
	line[length] = '\0';
	*ret_end = c == EOF && length == 0;
	if (c == EOF && ferror(in))
		return error_errno(err, STATUS_INVALID_ARGUMENT, errno, "reading failed");
	return STATUS_OK;
}

static enum status read_lines(
	struct bundle_file *file, FILE *in, const char *name, struct error *err)
{
	char line[LINE_MAX_BYTES];
	char place[PLACE_SIZE];

	for (unsigned number = 1;; number++) {
		struct error why = {0};
		bool end = false;

		snprintf(place, sizeof(place), "%.100s:%u", name, number);
		if (read_line(in, line, &end, &why) != STATUS_OK)
			return bad_line(place, &why, err);
		if (end)
			return bundle_file_check(file, name, err);
		enum status status = bundle_file_add(file, line, place, err);
		if (status != STATUS_OK)
			return status;
	}
}

enum status bundle_file_read(struct bundle_file *file, const char *path, struct error *err)
{
	bool standard = path == NULL || strcmp(path, "-") == 0;

	if (standard)
		return read_lines(file, stdin, "standard input", err);
	FILE *in = fopen(path, "re");
	if (in == NULL)
		return error_errno(err, STATUS_INVALID_ARGUMENT, errno, "%.100s", path);
	enum status status = read_lines(file, in, path, err);
	fclose(in);
	return status;
}

void bundle_file_name_place(const struct bundle_file *file, struct error *err)
{
	struct error told = *err;
	size_t index;
	int length = 0;

	if (sscanf(told.text, "grants[%zu]%n", &index, &length) != 1 || length == 0 ||
		index >= file->count) {
		grant_terms_name_option(&file->lines[0].terms, err); /* of all of it */
		return;
	}
	/* ": why" or ".field: why" */
	const struct line *line = &file->lines[index];
	const char *rest = told.text + length;
	struct error why = {0};
	snprintf(why.text, sizeof(why.text), "%s", rest + strspn(rest, ".: "));
	grant_terms_name_option(&line->terms, &why);
	snprintf(err->text, sizeof(err->text), "%s: %.200s", line->place, why.text);
}

size_t bundle_file_grants(
	struct bundle_file *file, Postern__V1__GrantRequest *ret_grants[static BUNDLE_MAX])
{
	for (size_t i = 0; i < file->count; i++)
		ret_grants[i] = &file->lines[i].terms.request;
	return file->count;
}
