/* Clients put telnet codes in front of ABOR (IAC IP, IAC DM), and could put them anywhere: they are
 * skipped wherever a verb is looked for. Verbs count in either case. Lines end with LF. */
#include "client/inspectors/ftp/command.h"

#include <string.h>

#define IAC 255
#define TELNET_WILL 251 /* WILL, WONT, DO, DONT are followed by an option */
#define TELNET_DONT 254
#define TELNET_COMMAND 2 /* values of `telnet`: IAC seen, option expected */
#define TELNET_OPTION 1

static const struct {
	char verb[5];
	enum command_kind kind;
} verbs[] = {
	{"PASV", COMMAND_PASV}, /* the first of a kind is its name */
	{"P@SW", COMMAND_PASV},
	{"EPSV", COMMAND_EPSV},
	{"PORT", COMMAND_PORT},
	{"P@RT", COMMAND_PORT},
	{"EPRT", COMMAND_EPRT},
	{"LPRT", COMMAND_LPRT},
	{"LPSV", COMMAND_LPSV},
	{"AUTH", COMMAND_AUTH},
	{"ABOR", COMMAND_ABOR},
};

void command_init(struct command_parser *parser)
{
	memset(parser, 0, sizeof(*parser));
}

static char upper(uint8_t byte)
{
	return (char)(byte >= 'a' && byte <= 'z' ? byte - 'a' + 'A' : byte);
}

static bool is_space(uint8_t byte)
{
	return byte == ' ' || (byte >= '\t' && byte <= '\r') || byte == '\0';
}

static void verb_done(struct command_parser *parser)
{
	parser->in_rest = true;
	if (parser->verb_size != sizeof(parser->verb))
		return;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (memcmp(parser->verb, verbs[i].verb, sizeof(parser->verb)) == 0)
			parser->kind = verbs[i].kind;
	}
}

/* True while the byte belongs to a telnet sequence. */
static bool skip_telnet(struct command_parser *parser, uint8_t byte)
{
	if (parser->telnet == TELNET_COMMAND) {
		parser->telnet = byte >= TELNET_WILL && byte <= TELNET_DONT ? TELNET_OPTION : 0;
		return byte != IAC; /* IAC IAC is the byte 255 itself */
	}
	if (parser->telnet == TELNET_OPTION) {
		parser->telnet = 0;
		return true;
	}
	if (byte == IAC)
		parser->telnet = TELNET_COMMAND;
	return byte == IAC;
}

static void look_for_verb(struct command_parser *parser, uint8_t byte)
{
	if (skip_telnet(parser, byte))
		return;
	if (is_space(byte)) {
		if (parser->verb_size > 0)
			verb_done(parser);
	} else if (parser->verb_size < sizeof(parser->verb)) {
		parser->verb[parser->verb_size++] = upper(byte);
	} else {
		parser->in_rest = true; /* longer than any that we know */
	}
}

static void look_at_argument(struct command_parser *parser, uint8_t byte)
{
	if (parser->kind != COMMAND_EPSV && parser->kind != COMMAND_PORT &&
		parser->kind != COMMAND_EPRT)
		return;
	if (parser->argument_size == 0 && is_space(byte))
		return;
	if (parser->argument_size < sizeof(parser->argument))
		parser->argument[parser->argument_size] = byte;
	if (parser->argument_size <= sizeof(parser->argument))
		parser->argument_size++;
}

bool command_argument(
	const struct command_parser *parser, const uint8_t **ret_argument, size_t *ret_size)
{
	size_t size = parser->last_size;

	if (size > sizeof(parser->argument))
		return false;
	while (size > 0 && is_space(parser->argument[size - 1]))
		size--;
	*ret_argument = parser->argument;
	*ret_size = size;
	return true;
}

static bool says_all(const struct command_parser *parser)
{
	const uint8_t *argument;
	size_t size;

	return command_argument(parser, &argument, &size) && size == 3 &&
		upper(argument[0]) == 'A' && upper(argument[1]) == 'L' && upper(argument[2]) == 'L';
}

/* Ready for the next one; the argument stays for command_argument(). */
static struct command_step end_command(struct command_parser *parser, size_t size)
{
	struct command_step step = {.size = size, .ends = true, .kind = parser->kind};

	parser->last_size = parser->argument_size;
	if (parser->verb_size == 0)
		step.kind = COMMAND_BLANK;
	else if (parser->kind == COMMAND_EPSV && says_all(parser))
		step.kind = COMMAND_EPSV_ALL;
	parser->looked = 0;
	parser->in_rest = false;
	parser->kind = COMMAND_OTHER;
	parser->telnet = 0;
	parser->verb_size = 0;
	parser->argument_size = 0;
	return step;
}

struct command_step command_next(struct command_parser *parser, const uint8_t *data, size_t size)
{
	for (size_t i = parser->looked; i < size; i++) {
		if (parser->in_rest)
			look_at_argument(parser, data[i]);
		else
			look_for_verb(parser, data[i]);
		if (data[i] == '\n') {
			if (!parser->in_rest)
				verb_done(parser); /* also where telnet codes hid the LF */
			return end_command(parser, i + 1);
		}
		if (!parser->in_rest && i + 1 >= COMMAND_PREFIX_CAP) {
			/* Not a verb that we know; nor blank, wherever it ends. */
			parser->in_rest = true;
			parser->verb_size = 1;
		}
	}
	if (!parser->in_rest) {
		parser->looked = size;
		return (struct command_step){0};
	}
	parser->looked = 0;
	return (struct command_step){.size = size, .kind = parser->kind};
}

const char *command_name(enum command_kind kind)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (verbs[i].kind == kind)
			return verbs[i].verb;
	}
	return "-";
}
