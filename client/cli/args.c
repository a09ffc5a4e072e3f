#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/config.h"
#include "common/version.h"

#define WORDS_MAX 128

static void print_options(const struct option_spec *options, size_t most)
{
	for (size_t i = 0; i < most && options[i].name; i++) {
		char left[64];
		snprintf(left, sizeof left, "--%s%s%s", options[i].name,
			options[i].value ? " " : "", options[i].value ? options[i].value : "");
		printf("  %-28s %s\n", left, options[i].help);
	}
}

void args_help(const struct command *command)
{
	if (!command) {
		printf("usage: postern COMMAND [OPTIONS]\n\n");
		for (const struct command *each = commands; each->noun; each++) {
			char left[80];
			snprintf(left, sizeof left, "%s%s%s %s", each->noun, each->verb ? " " : "",
				each->verb ? each->verb : "", each->operands);
			printf("  %-28s %s\n", left, each->help);
		}
		printf("\nfor every command:\n");
		print_options(global_options, OPTIONS_MAX);
		printf("\n`postern COMMAND --help` tells a command's options; see postern(1).\n");
		return;
	}
	printf("usage: postern %s%s%s %s\n\n%s\n\n", command->noun, command->verb ? " " : "",
		command->verb ? command->verb : "", command->operands, command->help);
	print_options(command->options, OPTIONS_MAX);
	printf("\nfor every command:\n");
	print_options(global_options, OPTIONS_MAX);
}

int usage_error(const struct cli *cli, const char *format, ...)
{
	va_list list;
	fputs("postern: ", stderr);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	if (cli->command)
		fprintf(stderr, " (see `postern %s%s%s --help`)\n", cli->command->noun,
			cli->command->verb ? " " : "",
			cli->command->verb ? cli->command->verb : "");
	else
		fputs(" (see `postern help`)\n", stderr);
	return EXIT_USAGE;
}

const char *args_nth(const struct cli *cli, const char *name, size_t i)
{
	for (size_t at = 0; at < cli->given_count; at++)
		if (strcmp(cli->given[at].name, name) == 0 && i-- == 0)
			return cli->given[at].value;
	return NULL;
}

const char *args_get(const struct cli *cli, const char *name)
{
	const char *value = NULL;
	for (size_t at = 0; at < cli->given_count; at++)
		if (strcmp(cli->given[at].name, name) == 0)
			value = cli->given[at].value;
	return value;
}

static const struct option_spec *find_option(
	const struct option_spec *options, size_t most, const char *name, size_t length)
{
	for (size_t i = 0; i < most && options[i].name; i++)
		if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
			return &options[i];
	return NULL;
}

static int unknown_option(const struct cli *cli, const char *word)
{
	const char *words[WORDS_MAX];
	size_t count = 0;
	for (size_t i = 0; i < OPTIONS_MAX && cli->command && cli->command->options[i].name; i++)
		words[count++] = cli->command->options[i].name;
	for (size_t i = 0; global_options[i].name; i++)
		words[count++] = global_options[i].name;
	words[count] = NULL;
	const char *near = nearest_word(word + 2, words);
	return near ? usage_error(cli, "%s: unknown option: did you mean --%s?", word, near)
		    : usage_error(cli, "%s: unknown option", word);
}

/* "--name value", "--name=value", "-o value", "-h". Advances *at. */
static int take_option(struct cli *cli, int argc, char **argv, int *at)
{
	const char *word = argv[*at];
	const struct option_spec *spec = NULL;
	const char *value = NULL;
	if (strcmp(word, "-o") == 0) {
		spec = find_option(global_options, OPTIONS_MAX, "output", 6);
	} else if (strcmp(word, "-h") == 0) {
		spec = find_option(global_options, OPTIONS_MAX, "help", 4);
	} else if (strncmp(word, "--", 2) == 0) {
		size_t length = strcspn(word + 2, "=");
		if (cli->command)
			spec = find_option(cli->command->options, OPTIONS_MAX, word + 2, length);
		if (!spec)
			spec = find_option(global_options, OPTIONS_MAX, word + 2, length);
		if (word[2 + length] == '=')
			value = word + 2 + length + 1;
	}
	if (!spec)
		return unknown_option(cli, word);
	if (!spec->value && value)
		return usage_error(cli, "--%s takes no value", spec->name);
	if (spec->value && !value) {
		if (*at + 1 >= argc)
			return usage_error(cli, "--%s: %s is missing", spec->name, spec->value);
		value = argv[++*at];
	}
	if (cli->given_count == GIVEN_MAX)
		return usage_error(cli, "too many options");
	cli->given[cli->given_count].name = spec->name;
	cli->given[cli->given_count++].value = value ? value : "";
	return EXIT_GOOD;
}

static int unknown_command(const struct cli *cli, const char *noun, const char *verb)
{
	const char *words[WORDS_MAX];
	size_t count = 0;
	bool known_noun = false;
	for (const struct command *each = commands; each->noun; each++)
		known_noun |= strcmp(each->noun, noun) == 0;
	for (const struct command *each = commands; each->noun; each++)
		if (!known_noun || strcmp(each->noun, noun) == 0)
			words[count++] = known_noun ? each->verb : each->noun;
	words[count] = NULL;
	if (known_noun && !verb)
		return usage_error(
			cli, "%s: a verb is missing, like `postern %s %s`", noun, noun, words[0]);
	const char *near = nearest_word(known_noun ? verb : noun, words);
	if (known_noun)
		return near ? usage_error(cli, "%s %s: no such command: did you mean `%s %s`?",
				      noun, verb, noun, near)
			    : usage_error(cli, "%s %s: no such command", noun, verb);
	return near ? usage_error(cli, "%s: no such command: did you mean `%s`?", noun, near)
		    : usage_error(cli, "%s: no such command", noun);
}

static bool is_option(const char *word)
{
	return word[0] == '-' && word[1] != '\0';
}

/* The command is the first one or two words that are no options; options before them must be global
 * ones. */
static int find_command(struct cli *cli, int argc, char **argv, bool *consumed)
{
	const char *words[2] = {NULL, NULL};
	int places[2] = {0, 0}, count = 0;
	for (int i = 1; i < argc && count < 2; i++) {
		if (is_option(argv[i])) {
			const struct option_spec *spec = strcmp(argv[i], "-o") == 0
				? find_option(global_options, OPTIONS_MAX, "output", 6)
				: strncmp(argv[i], "--", 2) == 0
				? find_option(global_options, OPTIONS_MAX, argv[i] + 2,
					  strcspn(argv[i] + 2, "="))
				: NULL;
			if (count > 0)
				break;
			i += spec && spec->value && !strchr(argv[i], '=');
			continue;
		}
		places[count] = i;
		words[count++] = argv[i];
	}
	if (!words[0]) {
		args_help(NULL);
		for (int i = 1; i < argc; i++)
			if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
				return -1;
		return EXIT_USAGE;
	}
	for (const struct command *each = commands; each->noun; each++) {
		if (strcmp(each->noun, words[0]) != 0 ||
			(each->verb && (!words[1] || strcmp(each->verb, words[1]) != 0)))
			continue;
		cli->command = each;
		consumed[places[0]] = true;
		if (each->verb)
			consumed[places[1]] = true;
		return EXIT_GOOD;
	}
	return unknown_command(cli, words[0], words[1]);
}

int args_parse(struct cli *cli, int argc, char **argv)
{
	bool consumed[GIVEN_MAX] = {false};
	struct error err;
	if (argc > GIVEN_MAX)
		return usage_error(cli, "too many words");
	int code = find_command(cli, argc, argv, consumed);
	bool only_operands = false;
	for (int i = 1; i < argc && code == EXIT_GOOD; i++) {
		if (consumed[i])
			continue;
		if (!only_operands && strcmp(argv[i], "--") == 0)
			only_operands = true;
		else if (!only_operands && is_option(argv[i]))
			code = take_option(cli, argc, argv, &i);
		else if (cli->operand_count < sizeof cli->operands / sizeof *cli->operands)
			cli->operands[cli->operand_count++] = argv[i];
	}
	if (code != EXIT_GOOD)
		return code;
	if (args_get(cli, "help")) {
		args_help(cli->command);
		return -1;
	}
	if ((int)cli->operand_count < cli->command->least)
		return usage_error(cli, "%s is missing", cli->command->operands);
	if ((int)cli->operand_count > cli->command->most)
		return usage_error(cli, "%s: unexpected word", cli->operands[cli->command->most]);
	const char *output = args_get(cli, "output"), *deadline = args_get(cli, "deadline");
	if (output && strcmp(output, "human") != 0 && strcmp(output, "json") != 0)
		return usage_error(cli, "--output %s: human or json", output);
	cli->json = output && strcmp(output, "json") == 0;
	if (deadline && parse_duration(deadline, &cli->deadline_ms, &err))
		return usage_error(cli, "--deadline: %s", err.text);
	if (deadline && (cli->deadline_ms == 0 || cli->deadline_ms > 86400000))
		return usage_error(cli, "--deadline %s: from 1ms to 24h", deadline);
	return EXIT_GOOD;
}

int print_version(struct cli *cli)
{
	printf(cli->json ? "{\"version\": \"%s\"}\n" : "postern %s\n", POSTERN_VERSION);
	return EXIT_GOOD;
}

int print_help(struct cli *cli)
{
	for (const struct command *each = commands; each->noun && cli->operand_count > 0; each++) {
		if (strcmp(each->noun, cli->operands[0]) == 0 &&
			(!each->verb ||
				(cli->operand_count > 1 &&
					strcmp(each->verb, cli->operands[1]) == 0))) {
			args_help(each);
			return EXIT_GOOD;
		}
	}
	args_help(NULL);
	return EXIT_GOOD;
}
