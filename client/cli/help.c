#include "client/cli/help.h"

#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/text/names.h"
#include "common/config.h"

#define OPTION_COLUMN 30

static void print_usage(const struct command_spec *command, FILE *out)
{
	fprintf(out, "postern %s", command->noun);
	if (command->verb != NULL)
		fprintf(out, " %s", command->verb);
	if (command->operand != NULL)
		fprintf(out, command->min_operands == 0 ? " [%s]%s" : " %s%s", command->operand,
			command->max_operands > 1 ? "..." : "");
	for (const struct option_spec *o = command->options; o != NULL && o->name != NULL; o++)
		if (o->flags & OPTION_REQUIRED)
			fprintf(out, " --%s %s", o->name, o->value);
	fputs(" [OPTION]...\n", out);
}

static void print_choices(const struct option_spec *option, FILE *out)
{
	char list[NAMES_SIZE];

	if (option->choices == NULL)
		return;
	name_list(option->choices, ", ", list, sizeof(list));
	/* Wrapped at commas: the kinds of entries are many. */
	for (char *rest = list; rest[0] != '\0';) {
		size_t length = strlen(rest);
		if (length > 60) {
			length = 60;
			while (length > 0 && rest[length] != ' ')
				length--;
		}
		fprintf(out, "      %*s%.*s\n", OPTION_COLUMN - 2, "", (int)length, rest);
		rest += length + (rest[length] == ' ' ? 1 : 0);
	}
}

static void print_options(const struct option_spec *options, FILE *out)
{
	for (const struct option_spec *o = options; o != NULL && o->name != NULL; o++) {
		char left[64];
		char letter[8] = "    ";

		if (o->letter != 0)
			snprintf(letter, sizeof(letter), "-%c, ", o->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s%s", letter, o->name,
			o->value != NULL ? " " : "", o->value != NULL ? o->value : "",
			o->flags & OPTION_REPEAT ? "..." : "");
		fprintf(out, "  %-*s  %s%s\n", OPTION_COLUMN, left, o->help,
			o->flags & OPTION_REQUIRED ? " (needed)" : "");
		print_choices(o, out);
	}
}

static void print_command(const struct command_spec *command, FILE *out)
{
	fputs("Usage: ", out);
	print_usage(command, out);
	fprintf(out, "%s.\n", command->summary);
	if (command->more != NULL)
		fprintf(out, "\n%s\n", command->more);
	if (command->options != NULL) {
		fputs("\nOptions:\n", out);
		print_options(command->options, out);
	}
	fputs("\nGlobal options, before or after the command:\n", out);
	print_options(cli_globals, out);
	if (command->deadline_ms != 0) {
		char text[32];
		format_duration(command->deadline_ms, text, sizeof(text));
		fprintf(out, "\nThe deadline is %s unless --deadline is given.\n", text);
	}
	if (command->example != NULL)
		fprintf(out, "\nExample:\n  %s\n", command->example);
}

static void print_summaries(const char *noun, FILE *out)
{
	for (const struct command_spec *c = cli_commands; c->noun != NULL; c++) {
		char left[64];
		if (noun != NULL && strcmp(c->noun, noun) != 0)
			continue;
		snprintf(left, sizeof(left), "%s%s%s", c->noun, c->verb != NULL ? " " : "",
			c->verb != NULL ? c->verb : "");
		fprintf(out, "  %-24s %s\n", left, c->summary);
	}
}

static void print_overview(FILE *out)
{
	fputs("Usage: postern COMMAND [OPTION]...\n"
	      "Asks a Postern policy server. 'postern COMMAND --help' tells more, postern(1) "
	      "everything.\n\nCommands:\n",
		out);
	print_summaries(NULL, out);
	fputs("\nGlobal options, before or after the command:\n", out);
	print_options(cli_globals, out);
	fputs("\nExit codes:\n", out);
	for (const struct exit_meaning *m = exit_meanings; m->meaning != NULL; m++)
		fprintf(out, "  %2d  %s\n", m->code, m->meaning);
}

void help_print(const struct args *args, FILE *out)
{
	if (args->command != NULL) {
		print_command(args->command, out);
	} else if (args->noun != NULL) {
		fprintf(out, "Usage: postern %s COMMAND [OPTION]...\n\nCommands:\n", args->noun);
		print_summaries(args->noun, out);
	} else {
		print_overview(out);
	}
}

/* ---- completion: the words that may follow, one a line ---- */

static void list_options(const struct option_spec *options, FILE *out)
{
	for (; options != NULL && options->name != NULL; options++)
		fprintf(out, "--%s%s\n", options->name, options->value != NULL ? "=" : "");
}

static void list_values(const struct option_spec *option, FILE *out)
{
	char name[NAME_SIZE];

	for (unsigned i = 0; option->choices != NULL && name_at(option->choices, i, name); i++)
		fprintf(out, "%s\n", name);
	for (size_t i = 0; option->words != NULL && option->words[i] != NULL; i++)
		fprintf(out, "%s\n", option->words[i]);
	if (strcmp(option->value, "FILE") == 0)
		fputs("FILE\n", out);
}

static void list_nouns(FILE *out)
{
	const char *last = "";

	for (const struct command_spec *c = cli_commands; c->noun != NULL; c++) {
		if (strcmp(c->noun, last) != 0)
			fprintf(out, "%s\n", c->noun);
		last = c->noun;
	}
}

static const struct option_spec *find_option(const struct command_spec *command, const char *name)
{
	const struct option_spec *tables[] = {
		command == NULL ? NULL : command->options, cli_globals};

	for (size_t i = 0; i < 2; i++)
		for (const struct option_spec *o = tables[i]; o != NULL && o->name != NULL; o++)
			if (strcmp(o->name, name) == 0)
				return o;
	return NULL;
}

/* Operands: the noun, the verb, and for an option's values its name without dashes. */
static void list_words(const struct args *args, FILE *out)
{
	const char *noun = args->operands[0];
	const char *verb = args->operands[1];
	const char *option = args->operands[2];

	if (args->operand_count == 0) {
		list_nouns(out);
		list_options(cli_globals, out);
		return;
	}
	const struct command_spec *command = args_find_command(cli_commands, noun, verb);
	if (option != NULL) {
		const struct option_spec *found = find_option(command, option);
		if (found != NULL && found->value != NULL)
			list_values(found, out);
		return;
	}
	if (command == NULL) {
		for (const struct command_spec *c = cli_commands; c->noun != NULL; c++)
			if (strcmp(c->noun, noun) == 0)
				fprintf(out, "%s\n", c->verb);
		return;
	}
	list_options(command->options, out);
	list_options(cli_globals, out);
}

enum status help_show(struct cli *cli, struct error *err)
{
	struct args about = {0};
	char *words[] = {(char[]){"postern"}, (char *)(uintptr_t)cli->args.operands[0],
		(char *)(uintptr_t)cli->args.operands[1], (char[]){"--help"}};
	char *argv[4];
	int argc = 0;

	if (args_has(&cli->args, "list")) {
		list_words(&cli->args, cli->out);
		return STATUS_OK;
	}
	for (size_t i = 0; i < 4; i++)
		if (words[i] != NULL)
			argv[argc++] = words[i];
	enum status status = args_parse(cli_commands, cli_globals, argc, argv, &about, err);
	if (status == STATUS_OK)
		help_print(&about, cli->out);
	return status;
}
