/* Control connections over real loopback sockets, IPv4 and IPv6, with a scripted gatekeeper. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/ftp/rig.h"

static void whole_session(const char *address, const char *door)
{
	struct lab lab;

	lab_start(&lab, address);
	lab_connect(&lab);
	say(lab.client, "USER anna\r\nEP");
	expect_text(&lab, lab.server, "USER anna\r\n");
	say(lab.client, "SV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, "331 who\r\n229 ok (|||10");
	expect_text(&lab, lab.client, "331 who\r\n");
	say(lab.server, "46|)\r\n150 go\r\n");
	expect_text(&lab, lab.client, EPSV_OK "150 go\r\n");
	cr_expect_str_eq(lab.fake.door, door);
	cr_expect_str_eq(lab.fake.session, "session-1");
	cr_expect_eq(proxy_counts(lab.proxy).session.granted, 1);
	close(lab.client);
	lab.client = -1;
	expect_end(&lab, lab.server);
	close(lab.server);
	lab.server = -1;
	wait_sessions(&lab, 0);
	cr_expect_eq(lab.fake.opens, 1);
	cr_expect_eq(lab.fake.closes, 1);
	lab_stop(&lab);
}

Test(session, whole_ipv4)
{
	whole_session("127.0.0.1", "127.0.0.1:1046");
}

Test(session, whole_ipv6)
{
	whole_session("::1", "[::1]:1046");
}

/* The gateway's conntrack has no such connection: there is no use in asking twice for one door. */
Test(session, unknown_control_connection)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	error_reason(&lab.fake.open_fails, STATUS_FAILED_PRECONDITION, REASON_NO_SUCH_CONNECTION,
		"not in conntrack");
	lab_connect(&lab);
	say(lab.client, "EPSV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK);
	expect_line(&lab, lab.client, "425 Postern: the gateway does not know this control");
	cr_expect_eq(lab.fake.opens, 2); /* at the start and for the door */
	cr_expect_eq(lab.fake.asks, 0);
	lab_stop(&lab);
}

Test(session, denied)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	error_reason(&lab.fake.ask_fails, STATUS_PERMISSION_DENIED, REASON_DENIED_PROTOCOL_RULES,
		"no rule allows");
	lab_connect(&lab);
	say(lab.client, "EPSV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK "220 behind\r\n");
	expect_line(&lab, lab.client, "550 Postern: the protocol rules");
	expect_text(&lab, lab.client, "220 behind\r\n");
	cr_expect_eq(proxy_counts(lab.proxy).session.denied, 1);
	lab_stop(&lab);
}

/* No answer, no door: I2's other half is that the client is told. */
Test(session, deadline)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	lab.fake.silent = true;
	lab_connect(&lab);
	say(lab.client, "EPSV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK);
	expect_line(&lab, lab.client, "425 Postern: the permission did not come in time");
	cr_expect_eq(lab.fake.forgotten, 1);
	say(lab.client, "NOOP\r\n"); /* the control connection lives on */
	expect_text(&lab, lab.server, "NOOP\r\n");
	say(lab.server, "200 ok\r\n");
	expect_text(&lab, lab.client, "200 ok\r\n");
	lab_stop(&lab);
}

Test(session, policy_server_away)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	error_set(&lab.fake.open_fails, STATUS_UNAVAILABLE, "no connection");
	lab_connect(&lab);
	say(lab.client, "EPSV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK);
	expect_line(&lab, lab.client, "425 Postern: the policy server cannot be reached");
	cr_expect_eq(lab.fake.asks, 0);
	cr_expect_geq(lab.fake.opens, 2); /* at the start and for the door */
	memset(&lab.fake.open_fails, 0, sizeof(lab.fake.open_fails));
	say(lab.client, "EPSV\r\n"); /* it is back */
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK);
	expect_text(&lab, lab.client, EPSV_OK);
	lab_stop(&lab);
}

Test(session, the_server_had_ended_an_idle_session)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	lab_connect(&lab);
	lab.fake.lose_session_once = true;
	say(lab.client, "EPSV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK);
	expect_text(&lab, lab.client, EPSV_OK);
	cr_expect_eq(lab.fake.opens, 2);
	cr_expect_eq(lab.fake.asks, 2);
	lab_stop(&lab);
}

Test(session, client_leaves_while_a_reply_is_held)
{
	struct linger reset = {1, 0};
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	lab.config.deadline_ms = 60000;
	lab.fake.silent = true;
	lab_connect(&lab);
	say(lab.client, "EPSV\r\n");
	expect_text(&lab, lab.server, "EPSV\r\n");
	say(lab.server, EPSV_OK);
	while (lab.fake.asks == 0)
		loop_step(lab.fake.loop, 10);
	setsockopt(lab.client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(lab.client);
	lab.client = -1;
	wait_sessions(&lab, 0);
	cr_expect_eq(lab.fake.forgotten, 1);
	cr_expect_eq(lab.fake.closes, 1);
	expect_end(&lab, lab.server);
	lab_stop(&lab);
}

Test(session, half_close)
{
	struct lab lab;

	lab_start(&lab, "::1");
	lab_connect(&lab);
	say(lab.client, "QUIT\r\nPAS");
	shutdown(lab.client, SHUT_WR);
	expect_text(&lab, lab.server, "QUIT\r\nPAS");
	expect_end(&lab, lab.server);
	say(lab.server, "221 bye\r\n");
	expect_text(&lab, lab.client, "221 bye\r\n");
	close(lab.server);
	lab.server = -1;
	expect_end(&lab, lab.client);
	wait_sessions(&lab, 0);
	lab_stop(&lab);
}

Test(session, limits)
{
	struct lab lab;
	int second, third;

	lab_start(&lab, "127.0.0.1");
	lab_connect(&lab);
	second = new_client(&lab);
	third = new_client(&lab);
	expect_line(&lab, third, "421 Postern: too many connections from your address");
	expect_end(&lab, third);
	cr_expect_eq(proxy_counts(lab.proxy).sessions, 2);
	cr_expect_eq(proxy_counts(lab.proxy).turned_away, 1);
	lab.config.max_sessions = 2;
	close(third);
	third = new_client(&lab);
	expect_line(&lab, third, "421 Postern: too many connections; try again");
	close(second);
	close(third);
	lab_stop(&lab);
}

Test(session, unreachable_server)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	close(lab.back);
	lab.back = -1;
	lab.client = new_client(&lab);
	expect_line(&lab, lab.client, "421 Postern: the server refuses");
	expect_end(&lab, lab.client);
	wait_sessions(&lab, 0);
	cr_expect_eq(lab.fake.opens, 0);
	lab_stop(&lab);
}

Test(session, idle)
{
	struct lab lab;

	lab_start(&lab, "127.0.0.1");
	lab.config.idle_limit_ms = 200;
	lab_connect(&lab);
	expect_line(&lab, lab.client, "421 Postern: this connection was idle");
	expect_end(&lab, lab.client);
	wait_sessions(&lab, 0);
	lab_stop(&lab);
}

/* A client that does not read must not cost memory, and must get every byte when it reads. */
Test(session, slow_reader)
{
	enum { TOTAL = 256 << 20 /* more than the kernel's buffers take */ };
	struct lab lab;
	static char chunk[4096], got[65536];
	size_t sent = 0, received = 0, line = 64;
	unsigned stalled = 0;

	lab_start(&lab, "127.0.0.1");
	lab_connect(&lab);
	for (size_t i = 0; i < sizeof(chunk); i++)
		chunk[i] = i % line == line - 1 ? '\n' : i % line < 4 ? "200 "[i % line] : 'x';
	while (sent < TOTAL && stalled < 50) {
		ssize_t n = send(lab.server, chunk + sent % sizeof(chunk),
			sizeof(chunk) - sent % sizeof(chunk), MSG_NOSIGNAL);

		sent += n > 0 ? (size_t)n : 0;
		stalled = n > 0 ? 0 : stalled + 1;
		loop_step(lab.fake.loop, 1);
	}
	cr_expect_lt(sent, TOTAL, "back-pressure never came");
	while (received < sent) {
		ssize_t n;

		wait_readable(&lab, lab.client);
		n = recv(lab.client, got, sizeof(got), 0);
		cr_assert(n > 0);
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(got[i], chunk[(received + (size_t)i) % sizeof(chunk)]);
		received += (size_t)n;
		loop_step(lab.fake.loop, 0);
	}
	cr_expect_eq(received, sent);
	lab_stop(&lab);
}
