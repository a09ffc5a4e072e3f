#include "client/cli/args.h"

#include <stdio.h>
#include <string.h>

#include "client/text/names.h"
#include "common/config.h"

#define MAX_WORDS 64

struct parser {
	const struct command_spec *commands;
	const struct option_spec *globals;
	struct args *args;
	int argc;
	char *const *argv;
	int at;
	bool only_operands; /* after "--" */
	struct error *err;
};

/* " grant request" in "see 'postern grant request --help'"; "" while no command is known. */
static void command_words(const struct args *args, char *text, size_t size)
{
	if (args->command != NULL && args->command->verb != NULL)
		snprintf(text, size, " %s %s", args->noun, args->command->verb);
	else if (args->noun != NULL)
		snprintf(text, size, " %s", args->noun);
	else
		text[0] = '\0';
}

/* The bad word, and the nearest good one or where to read on. */
static enum status unknown(struct parser *parser, const char *what, const char *word,
	const char *dashes, const char *near)
{
	char command[96];

	if (near != NULL)
		return error_set(parser->err, STATUS_INVALID_ARGUMENT,
			"unknown %s '%.64s': did you mean '%s%s'?", what, word, dashes, near);
	command_words(parser->args, command, sizeof(command));
	return error_set(parser->err, STATUS_INVALID_ARGUMENT,
		"unknown %s '%.64s': see 'postern%s --help'", what, word, command);
}

/* ---- options ---- */

static const struct option_spec *find_in(
	const struct option_spec *options, const char *name, size_t length)
{
	for (; options != NULL && options->name != NULL; options++)
		if (strlen(options->name) == length && memcmp(options->name, name, length) == 0)
			return options;
	return NULL;
}

static const struct option_spec *own_options(const struct parser *parser)
{
	return parser->args->command == NULL ? NULL : parser->args->command->options;
}

static const struct option_spec *find_option(
	const struct parser *parser, const char *name, size_t length)
{
	const struct option_spec *found = find_in(own_options(parser), name, length);

	return found != NULL ? found : find_in(parser->globals, name, length);
}

static const struct option_spec *find_letter(const struct parser *parser, char letter)
{
	const struct option_spec *tables[] = {own_options(parser), parser->globals};

	for (size_t i = 0; i < 2 && letter != 0; i++)
		for (const struct option_spec *o = tables[i]; o != NULL && o->name != NULL; o++)
			if (o->letter == letter)
				return o;
	return NULL;
}

static size_t add_names(const struct option_spec *options, const char **words, size_t n)
{
	for (; options != NULL && options->name != NULL && n < MAX_WORDS; options++)
		words[n++] = options->name;
	return n;
}

static enum status unknown_option(
	struct parser *parser, const char *word, const char *name, size_t length)
{
	const char *words[MAX_WORDS + 1];
	char bare[64];
	size_t n = add_names(own_options(parser), words, 0);

	words[add_names(parser->globals, words, n)] = NULL;
	snprintf(bare, sizeof(bare), "%.*s",
		(int)(length < sizeof(bare) ? length : sizeof(bare) - 1), name);
	for (const struct command_spec *c = parser->commands;
		parser->args->command == NULL && c->noun != NULL; c++)
		if (find_in(c->options, name, length) != NULL)
			return error_set(parser->err, STATUS_INVALID_ARGUMENT,
				"'--%s' belongs to a command: write it behind the command's name",
				bare);
	return unknown(parser, "option", word, "--", nearest_word(bare, words));
}

static enum status check_name(
	struct parser *parser, const struct option_spec *option, const char *value)
{
	char text[NAMES_SIZE];
	int number;

	if (name_parse(option->choices, value, &number))
		return STATUS_OK;
	if (name_nearest(option->choices, value, text))
		return error_field(parser->err, option->name,
			"--%s: unknown value '%.64s': did you mean '%s'?", option->name, value,
			text);
	name_list(option->choices, ", ", text, sizeof(text));
	return error_field(parser->err, option->name,
		"--%s: unknown value '%.64s': use one of %.200s", option->name, value, text);
}

static enum status check_word(
	struct parser *parser, const struct option_spec *option, const char *value)
{
	for (size_t i = 0; option->words[i] != NULL; i++)
		if (strcmp(option->words[i], value) == 0)
			return STATUS_OK;
	const char *near = nearest_word(value, option->words);
	return error_field(parser->err, option->name,
		"--%s: unknown value '%.64s': did you mean '%s'?", option->name, value,
		near != NULL ? near : option->words[0]);
}

static enum status add_value(
	struct parser *parser, const struct option_spec *option, const char *value)
{
	struct args *args = parser->args;
	enum status status = STATUS_OK;

	if (!(option->flags & OPTION_REPEAT) && args_has(args, option->name))
		return error_field(parser->err, option->name, "--%s is given twice: give it once",
			option->name);
	if (args->value_count == ARGS_MAX_VALUES)
		return error_set(parser->err, STATUS_INVALID_ARGUMENT, "more than %d options",
			ARGS_MAX_VALUES);
	if (option->choices != NULL)
		status = check_name(parser, option, value);
	else if (option->words != NULL)
		status = check_word(parser, option, value);
	if (status != STATUS_OK)
		return status;
	args->values[args->value_count].option = option;
	args->values[args->value_count].value = value;
	args->value_count++;
	return STATUS_OK;
}

/* The value stands behind '=' (for a letter: directly behind it), or is the next word. */
static enum status take_option(
	struct parser *parser, const struct option_spec *option, const char *attached)
{
	const char *next = parser->at + 1 < parser->argc ? parser->argv[parser->at + 1] : NULL;

	if (option->value == NULL && attached != NULL)
		return error_field(parser->err, option->name,
			"--%s takes no value: leave '%.64s' out", option->name, attached);
	if (option->value == NULL || attached != NULL)
		return add_value(parser, option, attached);
	/* A known option in the value's place: the value was forgotten. --x=--y says that it is
	 * meant. */
	if (next == NULL ||
		(strncmp(next, "--", 2) == 0 &&
			find_option(parser, next + 2, strcspn(next + 2, "=")) != NULL))
		return error_field(parser->err, option->name, "--%s needs a value: --%s %s",
			option->name, option->name, option->value);
	parser->at++;
	return add_value(parser, option, next);
}

static enum status take_dashed(struct parser *parser, const char *word)
{
	const char *name = word + (word[1] == '-' ? 2 : 1);
	size_t length = strcspn(name, "=");
	const struct option_spec *option;

	if (word[1] != '-') {
		option = find_letter(parser, name[0]);
		return option == NULL
			? unknown_option(parser, word, name, strlen(name))
			: take_option(parser, option, name[1] == '\0' ? NULL : name + 1);
	}
	option = find_option(parser, name, length);
	if (option == NULL)
		return unknown_option(parser, word, name, length);
	return take_option(parser, option, name[length] == '=' ? name + length + 1 : NULL);
}

/* ---- commands and operands ---- */

const struct command_spec *args_find_command(
	const struct command_spec *commands, const char *noun, const char *verb)
{
	for (; commands->noun != NULL; commands++)
		if (strcmp(commands->noun, noun) == 0 &&
			(commands->verb == NULL ||
				(verb != NULL && strcmp(commands->verb, verb) == 0)))
			return commands;
	return NULL;
}

static enum status take_noun(struct parser *parser, const char *word)
{
	const char *words[MAX_WORDS + 1];
	size_t n = 0;

	for (const struct command_spec *c = parser->commands; c->noun != NULL && n < MAX_WORDS;
		c++) {
		if (strcmp(c->noun, word) == 0) {
			parser->args->noun = word;
			parser->args->command = args_find_command(parser->commands, word, NULL);
			return STATUS_OK;
		}
		words[n++] = c->noun;
	}
	words[n] = NULL;
	return unknown(parser, "command", word, "", nearest_word(word, words));
}

static size_t verbs_of(const struct command_spec *commands, const char *noun, const char **words)
{
	size_t n = 0;

	for (; commands->noun != NULL && n < MAX_WORDS; commands++)
		if (strcmp(commands->noun, noun) == 0 && commands->verb != NULL)
			words[n++] = commands->verb;
	words[n] = NULL;
	return n;
}

static enum status take_verb(struct parser *parser, const char *word)
{
	const char *words[MAX_WORDS + 1];
	char what[48];

	parser->args->command = args_find_command(parser->commands, parser->args->noun, word);
	if (parser->args->command != NULL)
		return STATUS_OK;
	verbs_of(parser->commands, parser->args->noun, words);
	snprintf(what, sizeof(what), "%s command", parser->args->noun);
	return unknown(parser, what, word, "", nearest_word(word, words));
}

static enum status take_operand(struct parser *parser, const char *word)
{
	struct args *args = parser->args;
	char command[96];

	if (args->operand_count < args->command->max_operands &&
		args->operand_count < ARGS_MAX_OPERANDS) {
		args->operands[args->operand_count++] = word;
		return STATUS_OK;
	}
	command_words(args, command, sizeof(command));
	return error_set(parser->err, STATUS_INVALID_ARGUMENT,
		"unexpected word '%.64s': see 'postern%s --help'", word, command);
}

static enum status take_word(struct parser *parser, const char *word)
{
	if (!parser->only_operands && word[0] == '-' && word[1] != '\0') {
		if (strcmp(word, "--") != 0)
			return take_dashed(parser, word);
		parser->only_operands = true;
		return STATUS_OK;
	}
	if (parser->args->noun == NULL)
		return take_noun(parser, word);
	if (parser->args->command == NULL)
		return take_verb(parser, word);
	return take_operand(parser, word);
}

/* ---- the whole line ---- */

static enum status missing_verb(struct parser *parser)
{
	const char *words[MAX_WORDS + 1];
	char list[160] = "";
	size_t used = 0;
	size_t n = verbs_of(parser->commands, parser->args->noun, words);

	for (size_t i = 0; i < n && used < sizeof(list); i++) {
		int m = snprintf(
			list + used, sizeof(list) - used, "%s%s", i == 0 ? "" : ", ", words[i]);
		used += m > 0 ? (size_t)m : 0;
	}
	return error_set(parser->err, STATUS_INVALID_ARGUMENT, "%s: say what to do: %s",
		parser->args->noun, list);
}

static enum status check_complete(struct parser *parser)
{
	const struct args *args = parser->args;
	char command[96];

	if (args->noun == NULL)
		return error_set(parser->err, STATUS_INVALID_ARGUMENT,
			"no command given: see 'postern help'");
	if (args->command == NULL)
		return missing_verb(parser);
	command_words(args, command, sizeof(command));
	if (args->operand_count < args->command->min_operands)
		return error_set(parser->err, STATUS_INVALID_ARGUMENT,
			"%s is missing: see 'postern%s --help'", args->command->operand, command);
	for (const struct option_spec *o = args->command->options; o != NULL && o->name != NULL;
		o++)
		if ((o->flags & OPTION_REQUIRED) && !args_has(args, o->name))
			return error_field(parser->err, o->name,
				"--%s %s is missing: see 'postern%s --help'", o->name, o->value,
				command);
	return STATUS_OK;
}

enum status args_parse(const struct command_spec *commands, const struct option_spec *globals,
	int argc, char *const *argv, struct args *ret_args, struct error *err)
{
	struct parser parser = {
		.commands = commands,
		.globals = globals,
		.args = ret_args,
		.argc = argc,
		.argv = argv,
		.err = err,
	};

	memset(ret_args, 0, sizeof(*ret_args));
	for (parser.at = 1; parser.at < argc; parser.at++) {
		enum status status = take_word(&parser, argv[parser.at]);
		if (status != STATUS_OK)
			return status;
	}
	if (args_has(ret_args, "help") || args_has(ret_args, "version"))
		return STATUS_OK;
	return check_complete(&parser);
}

const char *args_asked_format(int argc, char *const *argv)
{
	const char *format = NULL;

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strncmp(argv[i], "--output=", 9) == 0)
			format = argv[i] + 9;
		else if (strncmp(argv[i], "-o", 2) == 0 && argv[i][2] != '\0')
			format = argv[i] + 2;
		else if ((strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0) &&
			i + 1 < argc)
			format = argv[i + 1];
	}
	return format;
}
