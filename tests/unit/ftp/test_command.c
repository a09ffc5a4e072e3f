/* Commands are named whatever pieces they arrive in, and nothing leaves before its verb is known.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/inspectors/ftp/command.h"

static const char *const names[] = {
	"other", "blank", "pasv", "epsv", "all", "port", "eprt", "lprt", "lpsv", "auth", "abor"};

struct run {
	struct command_parser parser;
	char events[512];
	char arguments[256]; /* of PORT and EPRT */
	size_t from;
};

static void keep_argument(struct run *run)
{
	size_t used = strlen(run->arguments), size;
	const uint8_t *argument;

	if (command_argument(&run->parser, &argument, &size))
		snprintf(run->arguments + used, sizeof(run->arguments) - used, "[%.*s]", (int)size,
			(const char *)argument);
	else
		snprintf(run->arguments + used, sizeof(run->arguments) - used, "[long]");
}

static void feed(struct run *run, const char *text, size_t to)
{
	while (run->from < to) {
		size_t size = to - run->from, used = strlen(run->events);
		uint8_t *exact = malloc(size);
		struct command_step step;

		memcpy(exact, text + run->from, size);
		step = command_next(&run->parser, exact, size);
		free(exact);
		if (step.size == 0) {
			cr_assert(size < COMMAND_PREFIX_CAP);
			return;
		}
		cr_assert(step.size <= size);
		run->from += step.size;
		if (step.ends)
			snprintf(run->events + used, sizeof(run->events) - used, "%s ",
				names[step.kind]);
		if (step.ends && (step.kind == COMMAND_PORT || step.kind == COMMAND_EPRT))
			keep_argument(run);
	}
}

static void expect_bytes(const char *text, size_t size, const char *events)
{
	for (size_t split = 0; split <= size; split++) {
		struct run run = {0};

		command_init(&run.parser);
		feed(&run, text, split);
		feed(&run, text, size);
		cr_expect_str_eq(run.events, events, "split %zu of %s", split, text);
	}
	struct run run = {0};
	command_init(&run.parser);
	for (size_t i = 1; i <= size; i++)
		feed(&run, text, i);
	cr_expect_str_eq(run.events, events, "byte by byte: %s", text);
}

static void expect(const char *text, const char *events)
{
	expect_bytes(text, strlen(text), events);
}

Test(command, verbs)
{
	expect("USER anna\r\nPASS x\r\nPASV\r\n", "other other pasv ");
	expect("pasv\r\nPaSv\nP@SW\r\nPASV x\r\n", "pasv pasv pasv pasv ");
	expect("EPSV\r\nepsv 1\r\nEPSV 2\r\nEPSV ALL\r\nepsv  all \r\nEPSV ALLX\r\nEPSV\n",
		"epsv epsv epsv all all epsv epsv ");
	expect("PORT 1,2,3,4,5,6\r\nP@RT 1\r\nEPRT |1|a|2|\r\nLPRT 4\r\nLPSV\r\n",
		"port port eprt lprt lpsv ");
	expect("AUTH TLS\r\nauth ssl\r\nAUTH\r\n", "auth auth auth ");
	expect("PASVX\r\nPAS\r\nPORTS\r\nXPASV\r\n", "other other other other ");
	expect("\r\n\n  \r\nPASV\r\n", "blank blank blank pasv ");
	expect("  PORT 1\r\n\tPASV\r\n", "port pasv ");
	expect("STOR PASV\r\nRETR x\rPASV\r\n", "other other ");
}

Test(command, telnet)
{
	static const char abort[] = "\xff\xf4\xff\xf2"
				    "ABOR\r\n";
	static const char port[] = "\xff\xf4\xff\xf2"
				   "PORT 1\r\n";
	static const char inside[] = "PO\xff\xf1RT 1\r\n\xff\xfb\x01PASV\r\n";
	static const char escaped[] = "\xff\xffPASV\r\nPASV\xff\n";

	expect_bytes(abort, sizeof(abort) - 1, "abor ");
	expect_bytes(port, sizeof(port) - 1, "port ");
	expect_bytes(inside, sizeof(inside) - 1, "port pasv ");
	expect_bytes(escaped, sizeof(escaped) - 1, "other pasv ");
}

Test(command, long_lines_do_not_wait)
{
	char text[5000];

	memset(text, 'x', sizeof(text));
	memcpy(text, "STOR ", 5);
	memcpy(text + sizeof(text) - 8, "\nPASV\r\n", 8);
	struct run run = {0};
	command_init(&run.parser);
	feed(&run, text, 4000);
	cr_expect_eq(run.from, 4000);
	feed(&run, text, sizeof(text) - 1);
	cr_expect_str_eq(run.events, "other pasv ");
	/* Spaces for ever are no verb. */
	memset(text, ' ', 100);
	memcpy(text + 100, "PORT\nPASV\n", 11);
	expect(text, "other pasv ");
}

Test(command, arguments)
{
	static const char text[] =
		"PORT 1,2\r\nport\t \t3 4 \t\r\nEPRT\r\nEPRT |1|a|2|\nPORT "
		"012345678901234567890123456789012345678901234567890123456789012"
		"\nPORT "
		"0123456789012345678901234567890123456789012345678901234567890123"
		"\r\nPORTX 1\r\nPORT 5\r\n";

	for (size_t split = 0; split < sizeof(text); split++) {
		struct run run = {0};

		command_init(&run.parser);
		feed(&run, text, split);
		feed(&run, text, sizeof(text) - 1);
		cr_expect_str_eq(run.arguments,
			"[1,2][3 4][][|1|a|2|]["
			"012345678901234567890123456789012345678901234567890123456789012"
			"][long][5]",
			"split %zu: %s", split, run.arguments);
	}
}
