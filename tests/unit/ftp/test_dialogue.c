/* The dialogue as a whole: what passes, what is held, what is replaced, and in which order. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "client/inspectors/ftp/dialogue.h"
#include "common/buffer.h"

struct fixture {
	struct dialogue dialogue;
	struct dialogue_counts counts;
	struct buffer from_client, to_server, from_server, to_client;
	char asked[512]; /* the doors; what became of those to the client */
	bool deny;
	bool later; /* no verdict on commands */
	struct endpoint as; /* what commands are released as; port 0: what they say */
};

static void begin_ungreeted(struct fixture *f, const char *server, bool refuse_auth)
{
	bool is_ipv6 = server[0] == '[';
	struct dialogue_options options = {.refuse_auth = refuse_auth, .counts = &f->counts};

	memset(f, 0, sizeof(*f));
	cr_assert(endpoint_parse(server, true, &options.server));
	cr_assert(endpoint_parse(
		is_ipv6 ? "[fd77:1::2]:5001" : "10.77.1.2:5001", true, &options.client));
	dialogue_init(&f->dialogue, &options);
	buffer_init(&f->from_client, 16384);
	buffer_init(&f->to_server, 16384);
	buffer_init(&f->from_server, 16384);
	buffer_init(&f->to_client, 16384);
}

static void end(struct fixture *f)
{
	buffer_fini(&f->from_client);
	buffer_fini(&f->to_server);
	buffer_fini(&f->from_server);
	buffer_fini(&f->to_client);
}

static void note(struct fixture *f, const char *mark, const struct endpoint *door)
{
	size_t used = strlen(f->asked);
	char text[ENDPOINT_TEXT_SIZE] = "";

	if (door)
		endpoint_format(door, text);
	snprintf(f->asked + used, sizeof(f->asked) - used, "%s%s ", mark, text);
}

/* The session's part, in short. */
static void on_command(struct fixture *f, enum dialogue_result result)
{
	const struct dialogue_held *held = &f->dialogue.held_command;

	if (result == DIALOGUE_ABORTED) {
		note(f, "abort", NULL);
		return;
	}
	cr_assert(result == DIALOGUE_ASK || result == DIALOGUE_REFUSE);
	note(f, result == DIALOGUE_ASK ? "<" : "!<", &held->door);
	if (result == DIALOGUE_ASK && f->later)
		return;
	if (result == DIALOGUE_ASK && !f->deny)
		cr_assert(dialogue_release_command(
			&f->dialogue, &f->to_server, f->as.port ? &f->as : &held->door));
	else
		dialogue_refuse_command(&f->dialogue, "425 no way\r\n");
}

static void on_reply(struct fixture *f, enum dialogue_result result)
{
	if (result == DIALOGUE_PORT_REFUSED || result == DIALOGUE_TRANSFERRED) {
		note(f, result == DIALOGUE_TRANSFERRED ? "done" : "refused", NULL);
		return;
	}
	note(f, result == DIALOGUE_ASK ? "" : "!", &f->dialogue.held_reply.door);
	if (result == DIALOGUE_ASK && !f->deny)
		cr_assert(dialogue_release(&f->dialogue, &f->from_server, &f->to_client));
	else
		cr_assert(dialogue_refuse(
			&f->dialogue, &f->from_server, &f->to_client, "425 no\r\n"));
}

static void pump(struct fixture *f)
{
	enum dialogue_result result;

	for (int i = 0; i < 3; i++) {
		while ((result = dialogue_commands(&f->dialogue, &f->from_client, &f->to_server,
				false)) != DIALOGUE_IDLE)
			on_command(f, result);
		while ((result = dialogue_replies(&f->dialogue, &f->from_server, &f->to_client,
				false)) != DIALOGUE_IDLE)
			on_reply(f, result);
	}
}

static void client(struct fixture *f, const char *text)
{
	cr_assert(buffer_append(&f->from_client, text, strlen(text)));
	pump(f);
}

static void client_bytes(struct fixture *f, const char *text, size_t size)
{
	cr_assert(buffer_append(&f->from_client, text, size));
	pump(f);
}

static void server_bytes(struct fixture *f, const char *text, size_t size)
{
	cr_assert(buffer_append(&f->from_server, text, size));
	pump(f);
}

static void server(struct fixture *f, const char *text)
{
	server_bytes(f, text, strlen(text));
}

static void begin(struct fixture *f, const char *at, bool refuse_auth)
{
	begin_ungreeted(f, at, refuse_auth);
	server(f, "220 hi\r\n");
	buffer_consume(&f->to_client, f->to_client.length);
}

static const char *text_of(const struct buffer *buffer)
{
	static char text[2][16385];
	static int i;

	i = !i;
	memcpy(text[i], buffer->length ? buffer_bytes(buffer) : (const uint8_t *)"",
		buffer->length);
	text[i][buffer->length] = '\0';
	return text[i];
}

/* The server's whole stream in every split and byte by byte. */
static void expect(const char *at, const char *commands, const char *replies, bool deny,
	const char *asked, const char *to_client)
{
	size_t size = strlen(replies);
	struct fixture f;

	for (size_t split = 0; split <= size + 1; split++) {
		begin(&f, at, true);
		f.deny = deny;
		client(&f, commands);
		if (split <= size) {
			server_bytes(&f, replies, split);
			server_bytes(&f, replies + split, size - split);
		} else {
			for (size_t i = 0; i < size; i++)
				server_bytes(&f, replies + i, 1);
		}
		cr_expect_str_eq(f.asked, asked, "split %zu of %s: %s", split, replies, f.asked);
		cr_expect_str_eq(
			text_of(&f.to_client), to_client, "split %zu of %s", split, replies);
		end(&f);
	}
}

#define V4 "10.77.2.2:21"
#define V6 "[fd77:2::2]:21"
#define R227 "227 Entering Passive Mode (10,77,2,2,4,22).\r\n"
#define R229 "229 Entering Extended Passive Mode (|||1046|)\r\n"

Test(dialogue, holds_what_was_asked_for)
{
	expect(V4, "PASV\r\n", R227, false, "10.77.2.2:1046 ", R227);
	expect(V4, "EPSV\r\n", R229, false, "10.77.2.2:1046 ", R229);
	expect(V6, "EPSV\r\n", R229, false, "[fd77:2::2]:1046 ", R229);
	expect(V4, "PASV\r\n", R227, true, "10.77.2.2:1046 ", "425 no\r\n");
	expect(V4, "TYPE I\r\nPASV\r\nRETR x\r\n", "200 a\r\n" R227 "150 b\r\n226 c\r\n", false,
		"10.77.2.2:1046 done ", "200 a\r\n" R227 "150 b\r\n226 c\r\n");
	expect(V4, "TYPE I\r\nPASV\r\nRETR x\r\n", "200 a\r\n" R227 "425 b\r\n", true,
		"10.77.2.2:1046 ", "200 a\r\n425 no\r\n425 b\r\n");
	/* A pipelining client, replies coalesced: what the kernel's helper misses. */
	expect(V4, "PASV\r\nPASV\r\nEPSV\r\n", R227 "227 (10,77,2,2,4,23)\r\n" R229, false,
		"10.77.2.2:1046 10.77.2.2:1047 10.77.2.2:1046 ",
		R227 "227 (10,77,2,2,4,23)\r\n" R229);
	expect(V4, "PASV\r\n", "227-a\r\n(10,77,2,2,4,22)\r\n227 b\r\n", false, "10.77.2.2:1046 ",
		"227-a\r\n(10,77,2,2,4,22)\r\n227 b\r\n");
}

Test(dialogue, passes_what_nobody_asked_for)
{
	expect(V4, "", "220 a\r\n" R227 R229, false, "", "220 a\r\n" R227 R229);
	expect(V4, "EPSV\r\n", R227 R229, false, "10.77.2.2:1046 ", R227 R229);
	expect(V4, "EPSV ALL\r\n", "200 ok\r\n" R229, false, "", "200 ok\r\n" R229);
	/* One question, one door. */
	expect(V4, "PASV\r\n", R227 R227, false, "10.77.2.2:1046 ", R227 R227);
	/* An error ends the question. */
	expect(V4, "PASV\r\n", "502 no\r\n" R227, false, "", "502 no\r\n" R227);
	expect(V4, "STAT\r\n", "211-a\r\n" R227 "211 b\r\n", false, "",
		"211-a\r\n" R227 "211 b\r\n");
}

Test(dialogue, guards)
{
	expect(V4, "PASV\r\n", "227 (10,77,2,3,4,22)\r\n", false, "!10.77.2.3:1046 ", "425 no\r\n");
	expect(V4, "PASV\r\n", "227 (10,77,2,2,0,22)\r\n", false, "!10.77.2.2:22 ", "425 no\r\n");
	expect(V4, "PASV\r\n", "227 (10,77,2,2,3,255)\r\n", false, "!10.77.2.2:1023 ",
		"425 no\r\n");
	expect(V4, "PASV\r\n", "227 (10,77,2,2,4,0)\r\n", false, "10.77.2.2:1024 ",
		"227 (10,77,2,2,4,0)\r\n");
	expect(V4, "EPSV\r\n", "229 (|||22|)\r\n", false, "!10.77.2.2:22 ", "425 no\r\n");
	expect(V6, "PASV\r\n", "227 (10,77,2,2,4,22)\r\n", false, "!10.77.2.2:1046 ", "425 no\r\n");
	expect(V4, "EPSV\r\n", "229 what?\r\n", false, "!10.77.2.2:21 ", "425 no\r\n");
}

Test(dialogue, overlong_passive_reply)
{
	char reply[3000] = "227-", after[] = "\r\n227 x\r\n230 y\r\n";
	struct fixture f;

	memset(reply + 4, 'x', sizeof(reply) - 4);
	memcpy(reply + sizeof(reply) - sizeof(after), after, sizeof(after));
	begin(&f, V4, true);
	client(&f, "PASV\r\n");
	for (size_t i = 0; i < sizeof(reply) - 1; i++)
		server_bytes(&f, reply + i, 1);
	cr_expect_str_eq(text_of(&f.to_client), "425 no\r\n230 y\r\n");
	cr_expect_eq(f.dialogue.held_reply.active, false);
	end(&f);
	begin(&f, V4, true); /* nobody asked: nobody cares how long */
	server_bytes(&f, reply, sizeof(reply) - 1);
	cr_expect_str_eq(text_of(&f.to_client), reply);
	end(&f);
}

Test(dialogue, long_forms_are_answered_here)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "NOOP\r\nLPRT 4\r\nLPSV\r\nSTAT\r\n");
	cr_expect_str_eq(text_of(&f.to_server), "NOOP\r\nSTAT\r\n");
	cr_expect_eq(f.to_client.length, 0); /* NOOP's reply comes first */
	server(&f, "200 noop\r\n211-stat\r\n");
	cr_expect_str_eq(text_of(&f.to_client),
		"200 noop\r\n502 Postern: LPRT is not available here; use EPRT\r\n"
		"502 Postern: LPSV is not available here; use EPSV\r\n211-stat\r\n");
	cr_expect_eq(f.counts.long_refused, 2);
	end(&f);
}

/* The client's whole stream in every split and byte by byte; the server answers 200 to everything,
 * so that what is owed comes out. */
static void expect_commands(const char *at, const char *as, const char *commands, bool deny,
	const char *asked, const char *to_server)
{
	size_t size = strlen(commands);
	struct fixture f;

	for (size_t split = 0; split <= size + 1; split++) {
		begin(&f, at, true);
		f.deny = deny;
		if (as)
			cr_assert(endpoint_parse(as, true, &f.as));
		if (split <= size) {
			client_bytes(&f, commands, split);
			client_bytes(&f, commands + split, size - split);
		} else {
			for (size_t i = 0; i < size; i++)
				client_bytes(&f, commands + i, 1);
		}
		cr_expect_str_eq(f.asked, asked, "split %zu of %s: %s", split, commands, f.asked);
		cr_expect_str_eq(text_of(&f.to_server), to_server, "split %zu of %s: %s", split,
			commands, text_of(&f.to_server));
		end(&f);
	}
}

Test(dialogue, active_commands_pass_with_their_door)
{
	expect_commands(V4, NULL, "PORT 10,77,1,2,4,22\r\nRETR x\r\n", false, "<10.77.1.2:1046 ",
		"PORT 10,77,1,2,4,22\r\nRETR x\r\n");
	expect_commands(V4, NULL, "eprt |1|10.77.1.2|1046|\r\n", false, "<10.77.1.2:1046 ",
		"EPRT |1|10.77.1.2|1046|\r\n");
	expect_commands(V6, NULL, "EPRT |2|fd77:1::2|65535|\r\n", false, "<[fd77:1::2]:65535 ",
		"EPRT |2|fd77:1::2|65535|\r\n");
	/* Written anew: every way to write the same becomes one. */
	expect_commands(V6, NULL, "  ePrT  +2+FD77:0001:0:0:0::2+02000+ \n", false,
		"<[fd77:1::2]:2000 ", "EPRT |2|fd77:1::2|2000|\r\n");
	expect_commands(V4, NULL, "P@RT\t010,077,001,002,004,022 \r\n", false, "<10.77.1.2:1046 ",
		"PORT 10,77,1,2,4,22\r\n");
	/* Pipelined, two of them. */
	expect_commands(V4, NULL,
		"PORT 10,77,1,2,4,22\r\nRETR x\r\nPORT 10,77,1,2,4,23\r\nRETR y\r\n", false,
		"<10.77.1.2:1046 <10.77.1.2:1047 ",
		"PORT 10,77,1,2,4,22\r\nRETR x\r\nPORT 10,77,1,2,4,23\r\nRETR y\r\n");
	expect_commands(V4, NULL, "PORT 10,77,1,2,4,22\r\nRETR x\r\n", true, "<10.77.1.2:1046 ",
		"RETR x\r\n");
}

Test(dialogue, active_commands_are_translated)
{
	expect_commands(V4, "198.51.100.7:40000", "PORT 10,77,1,2,4,22\r\nRETR x\r\n", false,
		"<10.77.1.2:1046 ", "PORT 198,51,100,7,156,64\r\nRETR x\r\n");
	expect_commands(V4, "9.9.9.9:1024", "EPRT |1|10.77.1.2|1046|\r\nRETR x\r\n", false,
		"<10.77.1.2:1046 ", "EPRT |1|9.9.9.9|1024|\r\nRETR x\r\n");
	expect_commands(V6, "[2001:db8:ffff:ffff:ffff:ffff:ffff:7]:40000",
		"EPRT |2|fd77:1::2|1046|\r\nRETR x\r\n", false, "<[fd77:1::2]:1046 ",
		"EPRT |2|2001:db8:ffff:ffff:ffff:ffff:ffff:7|40000|\r\nRETR x\r\n");
}

Test(dialogue, active_commands_are_guarded)
{
	static const struct {
		const char *at, *command, *asked;
		enum dialogue_problem problem;
	} table[] = {
		/* The trap that opened a client's port 22 with the kernel's helper. */
		{V4, "PORT 10,77,1,2,0,22", "!<10.77.1.2:22 ", DIALOGUE_LOW_PORT},
		{V4, "PORT 10,77,1,2,3,255", "!<10.77.1.2:1023 ", DIALOGUE_LOW_PORT},
		{V4, "PORT 10,77,1,2,0,0", "!<10.77.1.2:0 ", DIALOGUE_LOW_PORT},
		{V4, "EPRT |1|10.77.1.2|22|", "!<10.77.1.2:22 ", DIALOGUE_LOW_PORT},
		{V6, "EPRT |2|fd77:1::2|22|", "!<[fd77:1::2]:22 ", DIALOGUE_LOW_PORT},
		{V4, "PORT 10,77,1,3,4,22", "!<10.77.1.3:1046 ", DIALOGUE_FOREIGN_HOST},
		{V4, "PORT 10,77,2,2,4,22", "!<10.77.2.2:1046 ", DIALOGUE_FOREIGN_HOST},
		{V6, "EPRT |2|fd77:1::3|1046|", "!<[fd77:1::3]:1046 ", DIALOGUE_FOREIGN_HOST},
		{V6, "PORT 10,77,1,2,4,22", "!<10.77.1.2:1046 ", DIALOGUE_OTHER_FAMILY},
		{V6, "EPRT |1|10.77.1.2|1046|", "!<10.77.1.2:1046 ", DIALOGUE_OTHER_FAMILY},
		{V4, "EPRT |2|fd77:1::2|1046|", "!<[fd77:1::2]:1046 ", DIALOGUE_OTHER_FAMILY},
		{V4, "EPRT |3|x|1046|", "!<:0 ", DIALOGUE_OTHER_FAMILY},
		{V4, "PORT", "!<:0 ", DIALOGUE_UNREADABLE},
		{V4, "PORT 10,77,1,2,4,22,1", "!<:0 ", DIALOGUE_UNREADABLE},
		{V4, "PORT 10, 77,1,2,4,22", "!<:0 ", DIALOGUE_UNREADABLE},
		{V4, "PORT 10,77,1,2,4,22 10,77,1,2,4,23", "!<:0 ", DIALOGUE_UNREADABLE},
		{V4, "PORT 10,77,1,2,4,256", "!<:0 ", DIALOGUE_UNREADABLE},
		{V4, "EPRT |1|10.77.1.2|65536|", "!<:0 ", DIALOGUE_UNREADABLE},
		{V4, "EPRT |1|::ffff:10.77.1.2|1046", "!<:0 ", DIALOGUE_UNREADABLE},
		{V4,
			"PORT 10,77,1,2,4,22                                                     "
			"          x",
			"!<:0 ", DIALOGUE_UNREADABLE},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char line[128];
		struct fixture f;

		snprintf(line, sizeof(line), "%s\r\nNOOP\r\n", table[i].command);
		expect_commands(table[i].at, NULL, line, false, table[i].asked, "NOOP\r\n");
		begin(&f, table[i].at, true);
		cr_assert(buffer_append(&f.from_client, line, strlen(line)));
		cr_expect_eq(dialogue_commands(&f.dialogue, &f.from_client, &f.to_server, false),
			DIALOGUE_REFUSE);
		cr_expect_eq(f.dialogue.held_command.problem, table[i].problem, "%s: %d", line,
			(int)f.dialogue.held_command.problem);
		end(&f);
	}
}

/* While a command is held, later ones wait and replies to earlier ones go on, also held ones. */
Test(dialogue, a_held_command_holds_back_only_what_follows_it)
{
	struct fixture f;

	begin(&f, V4, true);
	f.later = true;
	client(&f, "NOOP\r\nPASV\r\nPORT 10,77,1,2,4,22\r\nRETR x\r\nPORT 1\r\n");
	cr_expect_str_eq(text_of(&f.to_server), "NOOP\r\nPASV\r\n");
	server(&f, "200 noop\r\n" R227);
	cr_expect_str_eq(text_of(&f.to_client), "200 noop\r\n" R227);
	cr_expect_str_eq(f.asked, "<10.77.1.2:1046 10.77.2.2:1046 ");
	cr_expect(f.dialogue.held_command.active);
	cr_assert(
		dialogue_release_command(&f.dialogue, &f.to_server, &f.dialogue.held_command.door));
	cr_expect_eq(dialogue_ports_waiting(&f.dialogue), 1);
	pump(&f);
	cr_expect_str_eq(
		text_of(&f.to_server), "NOOP\r\nPASV\r\nPORT 10,77,1,2,4,22\r\nRETR x\r\n");
	end(&f);
}

Test(dialogue, a_refused_command_is_answered_in_its_turn)
{
	struct fixture f;

	begin(&f, V4, true);
	f.deny = true;
	client(&f, "NOOP\r\nPORT 10,77,1,2,4,22\r\nSTAT\r\nEPRT |1|10.77.1.2|1046|\r\n");
	cr_expect_str_eq(text_of(&f.to_server), "NOOP\r\nSTAT\r\n");
	cr_expect_eq(f.to_client.length, 0);
	server(&f, "200 noop\r\n211-a\r\n");
	cr_expect_str_eq(text_of(&f.to_client), "200 noop\r\n425 no way\r\n211-a\r\n");
	server(&f, "211 b\r\n");
	cr_expect_str_eq(text_of(&f.to_client),
		"200 noop\r\n425 no way\r\n211-a\r\n211 b\r\n425 no way\r\n");
	end(&f);
}

Test(dialogue, tells_what_becomes_of_doors_to_the_client)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "PORT 10,77,1,2,4,22\r\n");
	cr_expect_eq(dialogue_ports_waiting(&f.dialogue), 1);
	server(&f, "200 ok\r\n");
	cr_expect_eq(dialogue_ports_waiting(&f.dialogue), 0);
	cr_expect_str_eq(f.asked, "<10.77.1.2:1046 ");
	client(&f, "RETR x\r\n");
	server(&f, "150 go\r\n226 done\r\n");
	client(&f, "PORT 10,77,1,2,4,23\r\n");
	server(&f, "500 no\r\n");
	client(&f,
		"PORT 10,77,1,2,4,24\r\nRETR x\r\n\xff\xf4\xff\xf2"
		"ABOR\r\n");
	server(&f, "200 ok\r\n150 go\r\n426 broken\r\n226 aborted\r\n");
	cr_expect_str_eq(
		f.asked, "<10.77.1.2:1046 done <10.77.1.2:1047 refused <10.77.1.2:1048 abort ");
	end(&f);
}

Test(dialogue, epsv_all_means_what_it_says)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "EPSV ALL\r\n");
	server(&f, "502 what?\r\n"); /* then it is not agreed */
	client(&f, "PORT 10,77,1,2,4,22\r\n");
	server(&f, "200 ok\r\n");
	client(&f, "EPSV ALL\r\n");
	server(&f, "200 ok\r\n");
	client(&f, "PORT 10,77,1,2,4,22\r\nEPSV\r\n");
	server(&f, R229);
	cr_expect_str_eq(f.asked, "<10.77.1.2:1046 !<:0 10.77.2.2:1046 ");
	cr_expect(strstr(text_of(&f.to_client), "200 ok\r\n425 no way\r\n229 "));
	end(&f);
}

Test(dialogue, a_command_cut_off_by_the_end_goes_nowhere)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "NOOP\r\nPORT 10,77,1,2,4,2");
	cr_expect_eq(
		dialogue_commands(&f.dialogue, &f.from_client, &f.to_server, true), DIALOGUE_IDLE);
	cr_expect_str_eq(text_of(&f.to_server), "NOOP\r\n");
	end(&f);
}

/* A server behind translation of its own, passive_address = server. */
Test(dialogue, the_server_s_own_address_instead)
{
	static const struct {
		const char *at, *reply, *asked, *to_client;
	} table[] = {
		{V4, "227 Here (192,168,0,5,4,22)\r\n", "10.77.2.2:1046 ",
			"227 Entering Passive Mode (10,77,2,2,4,22).\r\n"},
		{V4, "227-a\r\n 0,0,0,0,4,22\r\n227 b\r\n", "10.77.2.2:1046 ",
			"227 Entering Passive Mode (10,77,2,2,4,22).\r\n"},
		{V4, "227 as it is (10,77,2,2,4,22)\r\n", "10.77.2.2:1046 ",
			"227 as it is (10,77,2,2,4,22)\r\n"},
		{V4, "227 (192,168,0,5,0,22)\r\n", "!10.77.2.2:22 ", "425 no\r\n"},
		{V6, "227 (192,168,0,5,4,22)\r\n", "!192.168.0.5:1046 ", "425 no\r\n"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t size = strlen(table[i].reply);

		for (size_t split = 0; split <= size; split++) {
			struct fixture f;

			begin(&f, table[i].at, true);
			f.dialogue.options.server_address = true;
			client(&f, "PASV\r\n");
			server_bytes(&f, table[i].reply, split);
			server_bytes(&f, table[i].reply + split, size - split);
			server(&f, "200 behind\r\n");
			cr_expect_str_eq(f.asked, table[i].asked);
			cr_expect_eq(strncmp(text_of(&f.to_client), table[i].to_client,
					     strlen(table[i].to_client)),
				0, "%s", text_of(&f.to_client));
			cr_expect(strstr(text_of(&f.to_client), "\r\n200 behind\r\n"));
			end(&f);
		}
	}
}

/* A remote must not be able to bring us down: PORT inside the greeting. */
Test(dialogue, own_answer_waits_for_the_end_of_a_reply)
{
	struct fixture f;

	begin_ungreeted(&f, V4, true);
	server(&f, "220-hello\r\n");
	client(&f, "PORT 1\r\n");
	cr_expect_str_eq(text_of(&f.to_client), "220-hello\r\n");
	server(&f, "220 there\r\n");
	cr_expect_str_eq(text_of(&f.to_client), "220-hello\r\n220 there\r\n425 no way\r\n");
	cr_expect_eq(f.to_server.length, 0);
	end(&f);
}

Test(dialogue, own_answers_are_bounded_and_do_not_wait_for_ever)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "ABOR\r\n");
	for (int i = 0; i < 100; i++)
		client(&f, "PORT 1\r\n");
	cr_expect_eq(f.dialogue.pending.locals, PENDING_LOCAL_MAX);
	cr_expect(dialogue_is_owing(&f.dialogue));
	cr_expect_eq(f.to_client.length, 0);
	dialogue_stop_waiting(&f.dialogue); /* a server that never answers ABOR */
	for (int i = 0; i < 10; i++)
		pump(&f);
	cr_expect_eq(f.counts.active_commands, 100);
	cr_expect_not(dialogue_is_owing(&f.dialogue));
	end(&f);
}

Test(dialogue, a_transfer_is_no_reason_to_stop_waiting)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "RETR x\r\nPORT 1\r\n");
	server(&f, "150 go\r\n");
	cr_expect(dialogue_in_transfer(&f.dialogue));
	cr_expect_not(dialogue_is_owing(&f.dialogue));
	server(&f, "226 done\r\n");
	cr_expect_not(dialogue_in_transfer(&f.dialogue));
	cr_expect(strstr(text_of(&f.to_client), "226 done\r\n425 no way\r\n"));
	end(&f);
}

Test(dialogue, auth_refused)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "AUTH TLS\r\nUSER a\r\n");
	cr_expect_str_eq(text_of(&f.to_server), "USER a\r\n");
	cr_expect_eq(strncmp(text_of(&f.to_client), "534 Postern: ", 13), 0);
	cr_expect_eq(f.counts.auth_refused, 1);
	end(&f);
}

Test(dialogue, auth_passed_blinds)
{
	static const char hello[] = "\x16\x03\x01PORT 1\r\n";
	struct fixture f;

	begin(&f, V4, false);
	client(&f, "AUTH TLS\r\n");
	client(&f, hello); /* too early: it waits for the reply */
	cr_expect_str_eq(text_of(&f.to_server), "AUTH TLS\r\n");
	server(&f, "234 go\r\n" R227);
	cr_expect_str_eq(text_of(&f.to_server), "AUTH TLS\r\n\x16\x03\x01PORT 1\r\n");
	cr_expect_str_eq(text_of(&f.to_client), "234 go\r\n" R227);
	cr_expect_str_eq(f.asked, "");
	end(&f);
	begin(&f, V4, false); /* the server does not want to: everything stays readable */
	client(&f, "AUTH TLS\r\nPASV\r\n");
	server(&f, "530 no\r\n");
	cr_expect_str_eq(text_of(&f.to_server), "AUTH TLS\r\nPASV\r\n");
	server(&f, R227);
	cr_expect_str_eq(f.asked, "10.77.2.2:1046 ");
	end(&f);
}

Test(dialogue, survives_a_drifting_count)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "\r\nNOOP\r\nABOR\r\nPASV\r\n"); /* the server answers none of the first */
	server(&f, R227);
	cr_expect_str_eq(f.asked, "abort 10.77.2.2:1046 ");
	client(&f, "PASV\r\n"); /* or too often */
	server(&f, "226 a\r\n226 b\r\n" R227);
	cr_expect_str_eq(f.asked, "abort 10.77.2.2:1046 10.77.2.2:1046 ");
	for (int i = 0; i < 500; i++) /* or never, while others are asked */
		client(&f, i % 2 ? "NOOP\r\n" : "PASV\r\n");
	buffer_consume(&f.to_server, f.to_server.length);
	server(&f, R227);
	cr_expect_eq(f.dialogue.held_reply.active, false);
	end(&f);
}

Test(dialogue, ends_are_passed_on)
{
	struct fixture f;

	begin(&f, V4, true);
	client(&f, "PAS");
	server(&f, "227 cut of");
	cr_expect_eq(f.to_server.length + f.to_client.length, 0);
	dialogue_commands(&f.dialogue, &f.from_client, &f.to_server, true);
	dialogue_replies(&f.dialogue, &f.from_server, &f.to_client, true);
	cr_expect_str_eq(text_of(&f.to_server), "PAS");
	cr_expect_str_eq(text_of(&f.to_client), "227 cut of");
	end(&f);
}

Test(dialogue, a_full_output_holds_back)
{
	struct fixture f;
	char line[1024];

	begin(&f, V4, true);
	memset(line, 'x', sizeof(line));
	memcpy(line, "200 ", 4);
	line[sizeof(line) - 1] = '\n';
	for (int i = 0; i < 24; i++)
		server_bytes(&f, line, sizeof(line));
	cr_expect_leq(f.to_client.length, 16384);
	cr_expect_eq(f.to_client.length + f.from_server.length, 24 * sizeof(line));
	for (int i = 0; i < 4; i++) {
		buffer_consume(&f.to_client, f.to_client.length);
		pump(&f);
	}
	cr_expect_eq(f.from_server.length, 0);
	end(&f);
}

/* Seen with vsftpd: commands sent before the greeting came shifted our answers by one. */
Test(dialogue, commands_ahead_of_the_greeting)
{
	struct fixture f;

	begin_ungreeted(&f, V4, true);
	client(&f, "USER a\r\nNOOP\r\nPORT 1\r\nEPSV\r\n");
	server(&f, "220 hi\r\n331 who\r\n");
	cr_expect_str_eq(text_of(&f.to_client), "220 hi\r\n331 who\r\n");
	server(&f, "200 noop\r\n" R229);
	cr_expect_str_eq(
		text_of(&f.to_client), "220 hi\r\n331 who\r\n200 noop\r\n425 no way\r\n" R229);
	cr_expect_str_eq(f.asked, "!<:0 10.77.2.2:1046 ");
	end(&f);
}
