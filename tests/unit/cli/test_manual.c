/* docs/postern.1 names every command, option and exit code: the table of commands is the truth. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/text/names.h"
#include "common/file.h"
#include "postern/v1/types.pb-c.h"

static char *manual;

static void set_up(void)
{
	char path[4096];
	const char *end = strstr(__FILE__, "tests/unit/cli/");
	size_t size;

	cr_assert_not_null(end);
	snprintf(path, sizeof(path), "%.*sdocs/postern.1", (int)(end - __FILE__), __FILE__);
	struct error err;
	cr_assert_eq(file_read(path, 1 << 20, &manual, &size, &err), STATUS_OK, "%s", err.text);
}

static void tear_down(void)
{
	free(manual);
}

TestSuite(manual, .init = set_up, .fini = tear_down);

/* From ".Cm gateway add" to the next command's item, so that an option is looked for in its own
 * section. */
static char *section(const char *noun, const char *verb)
{
	char head[64];

	snprintf(head, sizeof(head), "Cm %s%s%s", noun, verb != NULL ? " " : "",
		verb != NULL ? verb : "");
	const char *start = manual;
	size_t length = strlen(head);
	/* The definition stands at the beginning of a list item, plain or in an Xo enclosure. */
	while ((start = strstr(start, head)) != NULL) {
		const char *line = start;
		while (line > manual && line[-1] != '\n')
			line--;
		bool item = strncmp(line, ".It Cm", 6) == 0 ||
			(line - manual > 7 && strncmp(line - 7, ".It Xo\n", 7) == 0);
		if (item && (start[length] == ' ' || start[length] == '\n'))
			break;
		start += length;
	}
	if (start == NULL)
		return NULL;
	const char *end = start + length;
	for (;; end++) {
		end = strstr(end, "\n.It ");
		if (end == NULL)
			return strdup(start);
		if (strncmp(end, "\n.It Cm", 7) == 0 || strncmp(end, "\n.It Xo", 7) == 0)
			return strndup(start, (size_t)(end - start));
	}
}

static bool names_option(const char *text, const char *name)
{
	char word[64];

	snprintf(word, sizeof(word), "Fl -%s", name);
	for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
		if (strchr(" \n", at[strlen(word)]) != NULL)
			return true;
	return false;
}

Test(manual, names_every_command_and_option)
{
	for (const struct command_spec *c = cli_commands; c->noun != NULL; c++) {
		char *text = section(c->noun, c->verb);

		cr_assert_not_null(text, "%s %s is not in the manual", c->noun, c->verb);
		for (const struct option_spec *o = c->options; o != NULL && o->name != NULL; o++)
			cr_assert(names_option(text, o->name), "%s %s --%s is not in the manual",
				c->noun, c->verb, o->name);
		free(text);
	}
	for (const struct option_spec *o = cli_globals; o->name != NULL; o++)
		cr_assert(names_option(manual, o->name), "--%s is not in the manual", o->name);
}

Test(manual, names_every_exit_code)
{
	const char *status = strstr(manual, ".Sh EXIT STATUS");

	cr_assert_not_null(status);
	for (const struct exit_meaning *m = exit_meanings; m->meaning != NULL; m++) {
		char item[16];
		snprintf(item, sizeof(item), "\n.It %d\n", (int)m->code);
		cr_assert_not_null(
			strstr(status, item), "exit code %d is not in the manual", (int)m->code);
	}
}

static bool names_word(const char *word)
{
	for (const char *at = manual; (at = strstr(at, word)) != NULL; at++)
		if (at[-1] == ' ' && strchr(" \n", at[strlen(word)]) != NULL)
			return true;
	return false;
}

Test(manual, names_every_kind_and_flag)
{
	char name[NAME_SIZE];

	for (unsigned i = 0; name_at(&postern__v1__entry_kind__descriptor, i, name); i++)
		cr_assert(names_word(name), "kind %s is not in the manual", name);
	for (unsigned i = 0; name_at(&postern__v1__grant_flag__descriptor, i, name); i++)
		cr_assert(names_word(name), "flag %s is not in the manual", name);
}

static void check_keys(const ProtobufCMessageDescriptor *type)
{
	for (unsigned i = 0; i < type->n_fields; i++)
		cr_assert(names_word(type->fields[i].name), "key %s of %s is not in the manual",
			type->fields[i].name, type->name);
}

Test(manual, names_every_key)
{
	check_keys(&postern__v1__entry__descriptor);
	check_keys(&postern__v1__flow__descriptor);
	check_keys(&postern__v1__grant__descriptor);
}
