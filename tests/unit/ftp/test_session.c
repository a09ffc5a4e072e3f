/* Control connections over real loopback sockets, IPv4 and IPv6, with a scripted gatekeeper. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/inspectors/ftp/config.h"
#include "client/inspectors/ftp/gatekeeper.h"
#include "client/inspectors/ftp/proxy.h"
#include "common/clock.h"
#include "common/loop.h"

#define WAIT_US 10000000

struct gatekeeper_request {
	struct fake *fake;
	struct loop_task task;
	bool is_open, forgotten;
	gatekeeper_cb cb;
	void *arg;
	struct error err;
};

struct fake {
	struct gatekeeper base;
	struct loop *loop;
	struct error open_fails, ask_fails; /* status 0: it succeeds */
	bool silent; /* asks are not answered */
	unsigned opens, asks, forgotten, closes, pending;
	bool lose_session_once;
	char door[ENDPOINT_TEXT_SIZE], session[40];
	struct gatekeeper_request *unanswered;
};

static void on_task(void *arg)
{
	struct gatekeeper_request *request = arg;
	bool ok = request->err.status == STATUS_OK;

	request->fake->pending--;
	if (!request->forgotten)
		request->cb(request->arg,
			!ok                        ? NULL
				: request->is_open ? "session-1"
						   : "grant-1",
			&request->err);
	free(request);
}

static struct gatekeeper_request *new_request(
	struct fake *fake, bool is_open, gatekeeper_cb cb, void *arg)
{
	struct gatekeeper_request *request = calloc(1, sizeof(*request));

	request->fake = fake;
	request->is_open = is_open;
	request->cb = cb;
	request->arg = arg;
	request->err = is_open ? fake->open_fails : fake->ask_fails;
	return request;
}

static struct gatekeeper_request *fake_open(struct gatekeeper *gatekeeper,
	const struct endpoint *client, const struct endpoint *server, uint32_t deadline_ms,
	gatekeeper_cb cb, void *arg, struct error *err)
{
	struct fake *fake = (struct fake *)gatekeeper;
	struct gatekeeper_request *request = new_request(fake, true, cb, arg);

	(void)client, (void)server, (void)deadline_ms, (void)err;
	fake->opens++;
	fake->pending++;
	loop_post(fake->loop, &request->task, on_task, request);
	return request;
}

static struct gatekeeper_request *fake_ask(struct gatekeeper *gatekeeper,
	const struct gatekeeper_door *door, gatekeeper_cb cb, void *arg, struct error *err)
{
	struct fake *fake = (struct fake *)gatekeeper;
	struct gatekeeper_request *request = new_request(fake, false, cb, arg);

	(void)err;
	fake->asks++;
	endpoint_format(&door->remote, fake->door);
	snprintf(fake->session, sizeof(fake->session), "%s", door->session);
	if (fake->lose_session_once) {
		fake->lose_session_once = false;
		error_set(&request->err, STATUS_NOT_FOUND, "no such session");
	}
	if (fake->silent) {
		fake->unanswered = request;
		return request;
	}
	fake->pending++;
	loop_post(fake->loop, &request->task, on_task, request);
	return request;
}

static void fake_forget(struct gatekeeper *gatekeeper, struct gatekeeper_request *request)
{
	struct fake *fake = (struct fake *)gatekeeper;

	fake->forgotten++;
	request->forgotten = true;
	if (request == fake->unanswered) {
		fake->unanswered = NULL;
		free(request);
	}
}

static void fake_close(struct gatekeeper *gatekeeper, const char *session)
{
	(void)session;
	((struct fake *)gatekeeper)->closes++;
}

static const struct gatekeeper_ops ops = {fake_open, fake_ask, fake_forget, fake_close};

/* ---- a laboratory of three sockets ---- */

struct lab {
	struct fake fake;
	struct ftp_config config;
	struct proxy *proxy;
	int front, back; /* listening: where the client goes, the FTP server */
	struct endpoint back_end;
	int client, server;
	char passive[128];
};

static int listen_at(const char *address, struct endpoint *ret_end)
{
	struct endpoint at = {0};
	struct sockaddr_storage sa;
	socklen_t size;
	int fd;

	cr_assert(addr_parse(address, &at.addr));
	size = (socklen_t)endpoint_to_sockaddr(&at, &sa);
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&sa, size) == 0 && listen(fd, 8) == 0);
	size = sizeof(sa);
	getsockname(fd, (struct sockaddr *)&sa, &size);
	cr_assert(endpoint_from_sockaddr((struct sockaddr *)&sa, ret_end));
	return fd;
}

static int connect_to(const struct endpoint *to)
{
	struct sockaddr_storage sa;
	socklen_t size = (socklen_t)endpoint_to_sockaddr(to, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(fd >= 0 && connect(fd, (struct sockaddr *)&sa, size) == 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Runs the loop until `fd` is readable. */
static void wait_readable(struct lab *lab, int fd)
{
	int64_t until = clock_mono_us() + WAIT_US;
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	while (poll(&poll_fd, 1, 0) == 0) {
		cr_assert(clock_mono_us() < until, "nothing came");
		loop_step(lab->fake.loop, 10);
	}
}

static void expect_text(struct lab *lab, int fd, const char *text)
{
	char got[512] = "";
	size_t size = 0, wanted = strlen(text);

	while (size < wanted) {
		ssize_t n;

		wait_readable(lab, fd);
		n = recv(fd, got + size, wanted - size, 0);
		cr_assert(n > 0, "ended behind \"%s\"", got);
		size += (size_t)n;
	}
	cr_expect_str_eq(got, text);
}

static void expect_line(struct lab *lab, int fd, const char *begin)
{
	char got[512] = "";
	size_t size = 0;

	while (size == 0 || got[size - 1] != '\n') {
		wait_readable(lab, fd);
		cr_assert(size < sizeof(got) - 1 && recv(fd, got + size, 1, 0) == 1,
			"ended behind \"%s\"", got);
		size++;
	}
	cr_expect_eq(strncmp(got, begin, strlen(begin)), 0, "%s", got);
}

static void expect_end(struct lab *lab, int fd)
{
	char byte;

	wait_readable(lab, fd);
	cr_expect_leq(recv(fd, &byte, 1, 0), 0);
}

static void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void wait_sessions(struct lab *lab, size_t count)
{
	int64_t until = clock_mono_us() + WAIT_US;

	while (proxy_counts(lab->proxy).sessions != count || lab->fake.pending > 0) {
		cr_assert(
			clock_mono_us() < until, "%zu sessions", proxy_counts(lab->proxy).sessions);
		loop_step(lab->fake.loop, 10);
	}
}

static void lab_start(struct lab *lab, const char *address)
{
	struct proxy_options options = {.config = &lab->config};
	struct error err;

	memset(lab, 0, sizeof(*lab));
	lab->config = (struct ftp_config){
		.deadline_ms = 300,
		.connect_timeout_ms = 5000,
		.idle_limit_ms = 60000,
		.transfer_idle_limit_ms = 60000,
		.max_sessions = 4,
		.max_sessions_per_client = 2,
		.lowest_source_port = 20000,
		.highest_source_port = 29999,
	};
	cr_assert_eq(loop_new(&lab->fake.loop, &err), STATUS_OK);
	lab->fake.base.ops = &ops;
	options.loop = lab->fake.loop;
	cr_assert_eq(proxy_new(&options, &lab->proxy, &err), STATUS_OK);
	proxy_start(lab->proxy, &lab->fake.base);
	lab->back = listen_at(address, &lab->back_end);
	lab->client = lab->server = -1;
}

/* A client that wants to go to the FTP server and lands at the proxy. */
static int new_client(struct lab *lab)
{
	char address[ADDR_TEXT_SIZE];
	struct endpoint front, from;
	struct sockaddr_storage sa;
	socklen_t size = sizeof(sa);
	int listener, client, fd;

	addr_format(&lab->back_end.addr, address);
	listener = listen_at(address, &front);
	client = connect_to(&front);
	fd = accept4(listener, (struct sockaddr *)&sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
	cr_assert(fd >= 0 && endpoint_from_sockaddr((struct sockaddr *)&sa, &from));
	close(listener);
	proxy_adopt(lab->proxy, fd, &from, &lab->back_end);
	return client;
}

static void lab_connect(struct lab *lab)
{
	struct sockaddr_storage sa;
	socklen_t size = sizeof(sa);
	struct endpoint from;

	lab->client = new_client(lab);
	wait_readable(lab, lab->back);
	lab->server = accept4(lab->back, (struct sockaddr *)&sa, &size, SOCK_NONBLOCK);
	cr_assert(lab->server >= 0);
	cr_assert(endpoint_from_sockaddr((struct sockaddr *)&sa, &from));
	cr_expect(from.port >= 20000 && from.port <= 29999);
	say(lab->server, "220 hello\r\n");
	expect_text(lab, lab->client, "220 hello\r\n");
}

static void lab_stop(struct lab *lab)
{
	int64_t until = clock_mono_us() + WAIT_US;

	close(lab->client);
	close(lab->server);
	close(lab->back);
	proxy_free(lab->proxy);
	while (lab->fake.pending > 0 && clock_mono_us() < until)
		loop_step(lab->fake.loop, 10);
	loop_free(lab->fake.loop);
}

#define EPSV_OK "229 ok (|||1046|)\r\n"

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
