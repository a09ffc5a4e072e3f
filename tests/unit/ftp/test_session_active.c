/* Control connections as in test_session.c: active mode and translated addresses. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/unit/ftp/rig.h"

static void eprt(char *line, size_t size, const struct endpoint *end, unsigned port)
{
	char address[ADDR_TEXT_SIZE];

	addr_format(&end->addr, address);
	snprintf(line, size, "EPRT |%d|%s|%u|\r\n", end->addr.family == ADDR_IPV4 ? 1 : 2, address,
		port);
}

/* The FTP client asks for a connection to its port 5555, by `line`. */
static void connect_and_ask(struct lab *lab, char line[static 128])
{
	lab_connect(lab);
	eprt(line, 128, &lab->client_end, 5555);
	say(lab->client, line);
}

static void active(const char *address, const char *remote)
{
	char first[128], second[128];
	struct lab lab;

	lab_start(&lab, address);
	lab_connect(&lab);
	eprt(first, sizeof(first), &lab.client_end, 5555);
	eprt(second, sizeof(second), &lab.client_end, 5556);
	say(lab.client, first);
	expect_text(&lab, lab.server, first);
	cr_expect(lab.fake.inbound);
	cr_expect_str_eq(lab.fake.door, remote);
	cr_expect_eq(lab.fake.client_port, 5555);
	cr_expect_str_eq(lab.fake.external, "");
	cr_expect_eq(strncmp(lab.fake.context, "ftp EPRT ", 9), 0, "%s", lab.fake.context);
	say(lab.server, "200 fine\r\n");
	expect_text(&lab, lab.client, "200 fine\r\n");
	/* A new one before it was used: the older door goes when the server has answered. */
	say(lab.client, second);
	expect_text(&lab, lab.server, second);
	cr_expect_str_eq(lab.fake.cancelled, "");
	say(lab.server, "200 fine\r\n");
	expect_text(&lab, lab.client, "200 fine\r\n");
	cr_expect_str_eq(lab.fake.cancelled, "grant-1 ");
	say(lab.client, "RETR x\r\n");
	expect_text(&lab, lab.server, "RETR x\r\n");
	say(lab.server, "150 go\r\n226 done\r\n");
	expect_text(&lab, lab.client, "150 go\r\n226 done\r\n");
	/* The second was used; nothing of it is left to cancel. */
	say(lab.client, first);
	expect_text(&lab, lab.server, first);
	say(lab.server, "200 fine\r\n");
	expect_text(&lab, lab.client, "200 fine\r\n");
	cr_expect_str_eq(lab.fake.cancelled, "grant-1 ");
	say(lab.client, "ABOR\r\n");
	expect_text(&lab, lab.server, "ABOR\r\n");
	cr_expect_str_eq(lab.fake.cancelled, "grant-1 grant-3 ");
	cr_expect_eq(proxy_counts(lab.proxy).session.granted, 3);
	lab_stop(&lab);
	cr_expect_eq(lab.fake.closes, 1);
}

Test(session_active, active_ipv4)
{
	active("127.0.0.1", "127.0.0.1:0");
}

Test(session_active, active_ipv6)
{
	active("::1", "[::1]:0");
}

Test(session_active, active_and_passive_doors_end_each_other)
{
	char line[128];
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	connect_and_ask(&lab, line);
	expect_text(&lab, lab.server, line);
	say(lab.server, "500 not here\r\n");
	expect_text(&lab, lab.client, "500 not here\r\n");
	cr_expect_str_eq(lab.fake.cancelled, "grant-1 ");
	say(lab.client, line);
	expect_text(&lab, lab.server, line);
	say(lab.server, "200 fine\r\n");
	expect_text(&lab, lab.client, "200 fine\r\n");
	say(lab.client, "EPSV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK);
	expect_text(&lab, lab.client, EPSV_OK);
	cr_expect_str_eq(lab.fake.cancelled, "grant-1 grant-2 ");
	lab_stop(&lab);
}

Test(session_active, active_refusals)
{
	char line[128];
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	error_reason(&lab.fake.ask_fails, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA, "too many");
	lab_connect(&lab);
	eprt(line, sizeof(line), &lab.client_end, 5555);
	say(lab.client, "NOOP\r\n");
	say(lab.client, line);
	say(lab.client,
		"PORT 127,0,0,1,0,22\r\nPORT 10,0,0,1,4,22\r\nEPRT |2|::1|2000|\r\nPORT x\r\n"
		"NOOP\r\n");
	expect_text(&lab, lab.server, "NOOP\r\nNOOP\r\n");
	say(lab.server, "200 noop\r\n");
	expect_text(&lab, lab.client, "200 noop\r\n");
	expect_line(&lab, lab.client, "425 Postern: too many data connections");
	expect_line(&lab, lab.client, "504 Postern: data connections come to ports from 1024");
	expect_line(&lab, lab.client, "504 Postern: data connections come to your own address");
	expect_line(&lab, lab.client, "522 Postern: this connection uses IPv4, use (1)");
	expect_line(&lab, lab.client, "501 Postern: ");
	say(lab.server, "200 noop\r\n");
	expect_text(&lab, lab.client, "200 noop\r\n");
	cr_expect_eq(lab.fake.asks, 1);
	cr_expect_eq(proxy_counts(lab.proxy).session.guarded, 4);
	cr_expect_eq(proxy_counts(lab.proxy).session.failed, 1);
	lab_stop(&lab);
}

Test(session_active, active_deadline)
{
	char line[128];
	struct lab lab;

	lab_start(&lab, "::1");
	lab.fake.silent = true;
	connect_and_ask(&lab, line);
	say(lab.client, "NOOP\r\n");
	expect_line(&lab, lab.client, "425 Postern: the permission did not come in time");
	cr_expect_eq(lab.fake.forgotten, 1);
	expect_text(&lab, lab.server, "NOOP\r\n");
	lab_stop(&lab);
}

/* Both kinds of hold at once, none of them answered, and the client leaves. */
Test(session_active, client_leaves_while_both_are_held)
{
	char line[128];
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	lab.config.deadline_ms = 60000;
	lab_connect(&lab);
	lab.fake.silent = true;
	eprt(line, sizeof(line), &lab.client_end, 5555);
	say(lab.client, "EPSV\r\n");
	say(lab.client, line);
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK);
	while (lab.fake.asks < 2)
		loop_step(lab.fake.loop, 10);
	/* One teardown; an end of input alone would wait for the verdicts. */
	proxy_close(lab.proxy);
	cr_expect_eq(lab.fake.forgotten, 2);
	cr_expect_eq(lab.fake.closes, 1);
	lab_stop(&lab);
}

/* The client says no more, but what it said is carried out. */
Test(session_active, half_close_behind_a_held_command)
{
	char line[128];
	struct lab lab;

	lab_start(&lab, "::1");
	lab.fake.silent = true;
	connect_and_ask(&lab, line);
	shutdown(lab.client, SHUT_WR);
	while (!lab.fake.unanswered[0])
		loop_step(lab.fake.loop, 10);
	for (int i = 0; i < 5; i++)
		loop_step(lab.fake.loop, 1); /* it hears of the end meanwhile */
	answer_late(&lab);
	expect_text(&lab, lab.server, line);
	expect_end(&lab, lab.server);
	lab_stop(&lab);
}

/* ---- translation ---- */

static void translated(const char *address, const char *external, const char *command)
{
	char line[128];
	struct lab lab;
	struct addr addr;

	cr_assert(addr_parse(external, &addr));
	lab_start(&lab, address);
	*(addr.family == ADDR_IPV4 ? &lab.config.external_ipv4 : &lab.config.external_ipv6) = addr;
	lab_connect(&lab);
	cr_expect(addr_equal(&lab.seen.addr, &addr), "the server sees one address only");
	eprt(line, sizeof(line), &lab.client_end, 5555);
	say(lab.client, line);
	expect_text(&lab, lab.server, command);
	cr_expect_str_eq(lab.fake.external, external);
	cr_expect_eq(lab.fake.client_port, 5555);
	say(lab.server, "200 fine\r\n");
	expect_text(&lab, lab.client, "200 fine\r\n");
	say(lab.client, "EPSV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	memset(lab.fake.external, 0, sizeof(lab.fake.external));
	say(lab.server, EPSV_OK);
	expect_text(&lab, lab.client, EPSV_OK);
	cr_expect_str_eq(lab.fake.external, external);
	cr_expect_not(lab.fake.inbound);
	/* A grant without what the command should say is no use, and is given back. */
	memset(lab.fake.cancelled, 0, sizeof(lab.fake.cancelled));
	lab.fake.name_no_external = true;
	say(lab.client, line);
	expect_line(&lab, lab.client, "425 Postern: the data connection could not be permitted");
	cr_expect_str_eq(lab.fake.cancelled, "grant-3 ");
	lab_stop(&lab);
}

Test(session_active, translated_ipv4)
{
	translated("127.0.0.1", "127.0.0.9", "EPRT |1|127.0.0.9|40001|\r\n");
}

Test(session_active, translated_ipv6)
{
	translated("::1", "::1", "EPRT |2|::1|40001|\r\n");
}

Test(session_active, external_is_not_ours)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	cr_assert(addr_parse("192.0.2.77", &lab.config.external_ipv4));
	lab.client = new_client(&lab);
	expect_line(&lab, lab.client, "421 Postern: the server cannot be reached");
	expect_end(&lab, lab.client);
	cr_expect_eq(proxy_counts(lab.proxy).session.connect_failures, 1);
	lab_stop(&lab);
}

Test(session_active, foreign_passive_address)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	lab.config.passive_address = FTP_PASSIVE_SERVER;
	lab_connect(&lab);
	say(lab.client, "PASV\r\n");
	expect_text(&lab, lab.server, "PASV\r\n");
	say(lab.server, "227 ok (192,168,7,7,4,22)\r\n");
	expect_text(&lab, lab.client, "227 Entering Passive Mode (127,0,0,1,4,22).\r\n");
	cr_expect_str_eq(lab.fake.door, "127.0.0.1:1046");
	cr_expect_eq(proxy_counts(lab.proxy).session.dialogue.translated, 1);
	lab_stop(&lab);
}
