#include "tests/unit/ftp/rig.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

struct gatekeeper_request {
	struct fake *fake;
	struct loop_task task;
	bool is_open, forgotten;
	unsigned number; /* of the ask */
	gatekeeper_cb cb;
	void *arg;
	struct endpoint external;
	struct error err;
};

static void on_task(void *arg)
{
	struct gatekeeper_request *request = arg;
	bool ok = request->err.status == STATUS_OK;

	request->fake->pending--;
	if (!request->forgotten) {
		struct gatekeeper_answer answer = {"session-1", request->external};
		char grant[40];

		snprintf(grant, sizeof(grant), "grant-%u", request->number);
		if (!request->is_open)
			answer.id = grant;
		request->cb(request->arg, ok ? &answer : NULL, &request->err);
	}
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
	request->number = ++fake->asks;
	endpoint_format(&door->remote, fake->door);
	snprintf(fake->context, sizeof(fake->context), "%s", door->context);
	addr_format(&door->external, fake->external);
	fake->inbound = door->inbound;
	fake->client_port = door->client_port;
	if (door->inbound && door->external.family != ADDR_NONE && !fake->name_no_external)
		request->external = (struct endpoint){door->external, 40001};
	snprintf(fake->session, sizeof(fake->session), "%s", door->session);
	if (fake->lose_session_once) {
		fake->lose_session_once = false;
		error_set(&request->err, STATUS_NOT_FOUND, "no such session");
	}
	if (fake->silent) {
		fake->unanswered[fake->unanswered[0] != NULL] = request;
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
	for (int i = 0; i < 2; i++) {
		if (request != fake->unanswered[i])
			continue;
		fake->unanswered[i] = NULL;
		free(request);
		return;
	}
}

void answer_late(struct lab *lab)
{
	struct gatekeeper_request *request = lab->fake.unanswered[0];

	lab->fake.unanswered[0] = NULL;
	lab->fake.pending++;
	loop_post(lab->fake.loop, &request->task, on_task, request);
}

static void fake_cancel(struct gatekeeper *gatekeeper, const char *grant)
{
	struct fake *fake = (struct fake *)gatekeeper;
	size_t used = strlen(fake->cancelled);

	snprintf(fake->cancelled + used, sizeof(fake->cancelled) - used, "%s ", grant);
}

static void fake_close(struct gatekeeper *gatekeeper, const char *session)
{
	(void)session;
	((struct fake *)gatekeeper)->closes++;
}

static const struct gatekeeper_ops ops = {
	fake_open, fake_ask, fake_forget, fake_cancel, fake_close};

void fake_start(struct fake *fake)
{
	struct error err;

	memset(fake, 0, sizeof(*fake));
	fake->base.ops = &ops;
	cr_assert_eq(loop_new(&fake->loop, &err), STATUS_OK);
}

void fake_stop(struct fake *fake)
{
	int64_t until = clock_mono_us() + WAIT_US;

	while (fake->pending > 0 && clock_mono_us() < until)
		loop_step(fake->loop, 10);
	loop_free(fake->loop);
}

/* ---- sockets ---- */

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

void wait_readable(struct lab *lab, int fd)
{
	int64_t until = clock_mono_us() + WAIT_US;
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	while (poll(&poll_fd, 1, 0) == 0) {
		cr_assert(clock_mono_us() < until, "nothing came");
		loop_step(lab->fake.loop, 10);
	}
}

void expect_text(struct lab *lab, int fd, const char *text)
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

void expect_line(struct lab *lab, int fd, const char *begin)
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

void expect_end(struct lab *lab, int fd)
{
	char byte;

	wait_readable(lab, fd);
	cr_expect_leq(recv(fd, &byte, 1, 0), 0);
}

void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

void wait_sessions(struct lab *lab, size_t count)
{
	int64_t until = clock_mono_us() + WAIT_US;

	while (proxy_counts(lab->proxy).sessions != count || lab->fake.pending > 0) {
		cr_assert(
			clock_mono_us() < until, "%zu sessions", proxy_counts(lab->proxy).sessions);
		loop_step(lab->fake.loop, 10);
	}
}

void lab_start(struct lab *lab, const char *address)
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
	fake_start(&lab->fake);
	options.loop = lab->fake.loop;
	cr_assert_eq(proxy_new(&options, &lab->proxy, &err), STATUS_OK);
	proxy_start(lab->proxy, &lab->fake.base);
	lab->back = listen_at(address, &lab->back_end);
	lab->client = lab->server = -1;
}

int new_client(struct lab *lab)
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
	lab->client_end = from;
	proxy_adopt(lab->proxy, fd, &from, &lab->back_end);
	return client;
}

void lab_connect(struct lab *lab)
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
	lab->seen = from;
	say(lab->server, "220 hello\r\n");
	expect_text(lab, lab->client, "220 hello\r\n");
}

void lab_stop(struct lab *lab)
{
	close(lab->client);
	close(lab->server);
	close(lab->back);
	proxy_free(lab->proxy);
	fake_stop(&lab->fake);
}
