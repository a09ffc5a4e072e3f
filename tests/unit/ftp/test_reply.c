/* Replies are found whatever pieces they arrive in. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/inspectors/ftp/reply.h"

/* "P" passive, "O" overlong, "-" passed, each with the code, for every reply that ended. */
struct run {
	struct reply_parser parser;
	char events[256];
	size_t from, to; /* of the text: not yet handed out, arrived */
};

static void feed(struct run *run, const char *text, size_t to)
{
	run->to = to;
	while (run->from < run->to) {
		/* An exact copy, so that a sanitizer sees a read past the end. */
		size_t size = run->to - run->from, used = strlen(run->events);
		uint8_t *exact = malloc(size);
		struct reply_step step;

		memcpy(exact, text + run->from, size);
		step = reply_next(&run->parser, exact, size);
		free(exact);
		if (step.action == REPLY_MORE)
			return;
		cr_assert(step.size > 0 && step.size <= size);
		run->from += step.size;
		if (step.code)
			snprintf(run->events + used, sizeof(run->events) - used, "%c%u ",
				step.action == REPLY_PASSIVE        ? 'P'
					: step.action == REPLY_PASS ? '-'
								    : 'O',
				step.code);
	}
}

static void expect(const char *text, const char *events)
{
	size_t size = strlen(text);

	for (size_t split = 0; split <= size; split++) {
		struct run run = {0};

		reply_init(&run.parser);
		feed(&run, text, split);
		feed(&run, text, size);
		cr_expect_str_eq(run.events, events, "split %zu of %s", split, text);
	}
	struct run run = {0};
	reply_init(&run.parser);
	for (size_t i = 1; i <= size; i++)
		feed(&run, text, i);
	cr_expect_str_eq(run.events, events, "byte by byte: %s", text);
}

Test(reply, single_lines)
{
	expect("220 hello\r\n", "-220 ");
	expect("220\r\n227 a\r\n229 b\r\n230 c\r\n", "-220 P227 P229 -230 ");
	expect("227\n", "P227 ");
	expect("227\r\n", "P227 ");
	expect("2270 a\r\n", "");
	expect("227x\r\n227 y\r\n", "P227 ");
	expect("150 a\r\n226 b\r\n", "-150 -226 ");
	expect("junk\r\n227 a\r\n", "P227 ");
	expect("\r\n\n227 a\r\n", "P227 ");
	expect("22\r\n7 a\r\n", "");
	expect("722 a\r\n", "");
	expect("631 AAAA\r\n", "-631 ");
}

Test(reply, several_lines)
{
	expect("227-a\r\n b\r\n227 c\r\n", "P227 ");
	expect("227-a\r\n229 b\r\n227-c\r\n227 d\r\n", "P227 ");
	/* A 227 inside another reply is that reply's text. */
	expect("220-a\r\n227 (1,2,3,4,5,6)\r\n220 b\r\n", "-220 ");
	expect("220-a\r\n220-b\r\n2200 c\r\n220 d\r\n227 e\r\n", "-220 P227 ");
	expect("211-a\r\n211\r\n229 b\r\n", "-211 P229 ");
}

Test(reply, other_replies_do_not_wait)
{
	struct reply_parser parser;
	struct reply_step step;

	reply_init(&parser);
	step = reply_next(&parser, (const uint8_t *)"230", 3);
	cr_expect_eq(step.action, REPLY_PASS);
	cr_expect_eq(step.size, 3);
	cr_expect_not(reply_is_between(&parser));
	step = reply_next(&parser, (const uint8_t *)" x\n22", 5);
	cr_expect_eq(step.size, 3);
	cr_expect_eq(step.code, 230);
	cr_expect(reply_is_between(&parser));
}

Test(reply, overlong)
{
	char text[2 * REPLY_CAP];

	memset(text, 'x', sizeof(text));
	memcpy(text, "227 ", 4);
	memcpy(text + sizeof(text) - 20, "\r\n229 a\r\n", sizeof("\r\n229 a\r\n"));
	expect(text, "O227 -227 P229 ");
	memset(text, 'x', sizeof(text));
	memcpy(text, "229-\r\n", 6);
	memcpy(text + sizeof(text) - 30, "\r\n229 a\r\n230 b\r\n",
		sizeof("\r\n229 a\r\n230 b\r\n"));
	expect(text, "O229 -229 -230 ");
	/* One byte shorter than the cap. */
	memset(text, 'x', sizeof(text));
	memcpy(text, "227 ", 4);
	memcpy(text + REPLY_CAP - 3, "\r\n", sizeof("\r\n"));
	expect(text, "P227 ");
}
