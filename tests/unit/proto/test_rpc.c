/* The RPC runtime: a server and clients in one process, on one loop, over every transport. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "postern/v1/events.pb-c.h"
#include "postern/v1/gateways.pb-c.h"
#include "proto/rpc/rpc.h"

#define DEADLINE_US 10000000

/* ---- a service: Show echoes, holds, fails; Watch streams ---- */

static struct rpc_call *held;
static unsigned held_ended;
static enum status held_why;
static uint64_t to_send, sent_items;

static void on_held_end(void *arg, enum status why)
{
	struct rpc_call *call = arg;
	struct error err;
	held_ended++;
	held_why = why;
	held = NULL;
	error_set(&err, why, "nobody waits");
	rpc_fail(call, &err);
}

static void show(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayShowRequest *input, Postern__V1__Gateway_Closure closure,
	void *data)
{
	struct rpc_call *call = data;
	Postern__V1__Gateway reply = POSTERN__V1__GATEWAY__INIT;
	struct error err;
	(void)service;
	(void)closure;
	if (strcmp(input->name, "hold") == 0) {
		held = call;
		rpc_on_end(call, on_held_end, call);
		return;
	}
	if (strcmp(input->name, "fail") == 0) {
		error_reason(&err, STATUS_PERMISSION_DENIED, REASON_DENIED_PROTOCOL_RULES,
			"no rule allows it");
		snprintf(err.rule, sizeof err.rule, "a rule");
		rpc_fail(call, &err);
		return;
	}
	reply.name = input->name;
	rpc_reply(call, &reply.base);
}

static void add(Postern__V1__Gateways_Service *service, const Postern__V1__GatewayAddRequest *input,
	Postern__V1__GatewayAddReply_Closure closure, void *data)
{
	Postern__V1__GatewayAddReply reply = POSTERN__V1__GATEWAY_ADD_REPLY__INIT;
	(void)service;
	(void)input;
	(void)closure;
	rpc_reply(data, &reply.base);
}

static void list(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayListRequest *input, Postern__V1__Gateway_Closure closure,
	void *data)
{
	(void)service;
	(void)input;
	(void)closure;
	rpc_end(data);
}

static struct rpc_call *streaming;

static void pump(void *arg)
{
	struct rpc_call *call = arg;
	Postern__V1__EventBatch batch = POSTERN__V1__EVENT_BATCH__INIT;
	while (to_send > 0 && rpc_credit(call) > 0) {
		batch.cursor = sent_items + 1;
		if (rpc_item(call, &batch.base))
			return; /* the connection is gone: on_end follows */
		sent_items++;
		to_send--;
	}
	if (to_send == 0) {
		streaming = NULL;
		rpc_end(call);
	}
}

static void on_stream_end(void *arg, enum status why)
{
	struct error err;
	streaming = NULL;
	error_set(&err, why, "stopped");
	rpc_fail(arg, &err);
}

static void watch(Postern__V1__Events_Service *service, const Postern__V1__WatchRequest *input,
	Postern__V1__EventBatch_Closure closure, void *data)
{
	(void)service;
	(void)closure;
	to_send = input->cursor;
	sent_items = 0;
	streaming = data;
	rpc_on_end(data, on_stream_end, data);
	rpc_on_credit(data, pump, data);
	pump(data);
}

static Postern__V1__Gateways_Service gateways = POSTERN__V1__GATEWAYS__INIT();
static Postern__V1__Events_Service events = POSTERN__V1__EVENTS__INIT();

static enum status authenticate(void *arg, const char *token, const char *name,
	struct rpc_principal *ret, struct error *err)
{
	(void)arg;
	(void)name;
	if (strcmp(token, "right") != 0)
		return error_set(err, STATUS_UNAUTHENTICATED, "unknown token");
	memset(ret, 0, sizeof *ret);
	ret->role = RPC_ROLE_ADMIN;
	snprintf(ret->name, sizeof ret->name, "tester");
	return STATUS_OK;
}

static enum status authorise(
	void *arg, const struct rpc_principal *principal, const char *method, struct error *err)
{
	(void)arg;
	(void)principal;
	if (strcmp(method, "postern.v1.Gateways/Add") == 0)
		return error_set(err, STATUS_PERMISSION_DENIED, "not for you");
	return STATUS_OK;
}

/* ---- the rig ---- */

static struct loop *loop;
static struct rpc_server *server;
static struct rpc_client *client;
static enum rpc_client_state state;
static struct error state_error;
static unsigned ready_count;
static char folder[64], url[160];

static void on_state(void *arg, enum rpc_client_state now, const struct rpc_welcome *welcome,
	const struct error *err)
{
	(void)arg;
	state = now;
	state_error = *err;
	if (now == RPC_CLIENT_READY) {
		ready_count++;
		cr_expect_str_eq(welcome->principal, "tester");
		cr_expect_str_eq(welcome->role, "admin");
	}
}

static void step_until(bool (*done)(void))
{
	int64_t until = clock_mono_us() + DEADLINE_US;
	while (!done() && clock_mono_us() < until)
		loop_step(loop, 50);
	cr_assert(done(), "not before the deadline");
}

static bool is_ready(void)
{
	return state == RPC_CLIENT_READY;
}

static bool is_error(void)
{
	return state_error.status != STATUS_OK;
}

static void make_certificates(void)
{
	char command[1024];
	snprintf(command, sizeof command,
		"cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
		"-keyout key.pem -out cert.pem -days 2 "
		"-subj /CN=localhost -addext "
		"subjectAltName=DNS:localhost,DNS:127.0.0.1,IP:127.0.0.1 2>/dev/null && chmod 600 "
		"key.pem "
		"&& openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
		"other.key -out other.pem -days 2 "
		"-subj /CN=localhost 2>/dev/null",
		folder);
	/* allowed: a fixed command on a folder of the test itself */
	cr_assert_eq(system(command),
		0); /* allowed: a test makes its certificates with a fixed command */
}

static void serve(const char *transport, const struct rpc_limits *limits)
{
	struct error err = {0};
	char cert[128], key[128];
	snprintf(cert, sizeof cert, "%s/cert.pem", folder);
	snprintf(key, sizeof key, "%s/key.pem", folder);
	struct rpc_server_config config = {.loop = loop,
		.limits = limits ? *limits : rpc_default_limits,
		.identity = "test server",
		.tls_cert_file = cert,
		.tls_key_file = key,
		.authenticate = authenticate,
		.authorise = authorise};
	gateways.show = show;
	gateways.add = add;
	gateways.list = list;
	events.watch = watch;
	cr_assert_eq(rpc_server_new(&config, &server, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(rpc_server_add(server, &gateways.base, &err), STATUS_OK);
	cr_assert_eq(rpc_server_add(server, &events.base, &err), STATUS_OK);
	if (strcmp(transport, "ipc") == 0)
		snprintf(url, sizeof url, "ipc://%s/sock", folder);
	else
		snprintf(url, sizeof url, "%s://127.0.0.1:0", transport);
	cr_assert_eq(rpc_server_listen(server, url, &err), STATUS_OK, "%s", err.text);
	snprintf(url, sizeof url, "%s", rpc_server_url(server, 0));
}

static void dial(const char *token, const char *ca, bool reconnect, const struct rpc_limits *limits)
{
	struct error err = {0};
	char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, ca);
	struct rpc_client_config config = {.loop = loop,
		.limits = limits ? *limits : rpc_default_limits,
		.url = url,
		.token = token,
		.name = "test",
		.ca_file = path,
		.reconnect = reconnect,
		.on_state = on_state};
	cr_assert_eq(rpc_client_new(&config, &client, &err), STATUS_OK, "%s", err.text);
	rpc_client_start(client);
}

static void setup(void)
{
	struct error err;
	snprintf(folder, sizeof folder, "/tmp/postern-rpc-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(loop_new(&loop, &err), STATUS_OK);
}

static void teardown(void)
{
	char command[128];
	rpc_client_free(client);
	rpc_server_free(server);
	loop_free(loop);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	/* allowed: a fixed command on a folder of the test itself */
	cr_expect_eq(system(command), 0); /* allowed: a fixed command on the test's own folder */
}

TestSuite(rpc, .init = setup, .fini = teardown, .timeout = 60);

/* ---- calls ---- */

struct answer {
	bool done;
	struct error err;
	char name[64];
};

static unsigned answers;

static void on_answer(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct answer *answer = arg;
	cr_assert_not(answer->done, "answered twice");
	answer->done = true;
	answer->err = *err;
	if (reply)
		snprintf(answer->name, sizeof answer->name, "%s",
			((const Postern__V1__Gateway *)reply)->name);
	answers++;
}

static enum status ask(const char *name, const struct rpc_call_options *options,
	struct answer *answer, uint64_t *ret_call)
{
	Postern__V1__GatewayShowRequest request = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	request.name = (char *)(uintptr_t)name;
	memset(answer, 0, sizeof *answer);
	return rpc_client_call(client, &postern__v1__gateways__descriptor, "Show", &request.base,
		options, on_answer, answer, ret_call, &answer->err);
}

static struct answer one;

static bool one_done(void)
{
	return one.done;
}

static bool is_held(void)
{
	return held != NULL;
}

static void connect_over(const char *transport)
{
	if (strncmp(transport, "tls", 3) == 0)
		make_certificates();
	serve(transport, NULL);
	dial("right", "cert.pem", true, NULL);
	step_until(is_ready);
}

static void unary_over(const char *transport)
{
	connect_over(transport);
	cr_assert_eq(ask("gw1", NULL, &one, NULL), STATUS_OK);
	cr_assert_not(one.done, "the callback must not run inside the call");
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_OK, "%s", one.err.text);
	cr_expect_str_eq(one.name, "gw1");
}

Test(rpc, unary_over_ipc)
{
	unary_over("ipc");
}

Test(rpc, unary_over_tcp)
{
	unary_over("tcp");
}

Test(rpc, unary_over_tls)
{
	unary_over("tls+tcp");
}

Test(rpc, errors_carry_reason_and_rule)
{
	connect_over("ipc");
	ask("fail", NULL, &one, NULL);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_PERMISSION_DENIED);
	cr_expect_eq(one.err.reason, REASON_DENIED_PROTOCOL_RULES);
	cr_expect_str_eq(one.err.rule, "a rule");
	cr_expect_str_eq(one.err.text, "no rule allows it");
}

static struct answer many[500];

static bool many_done(void)
{
	return answers == 500;
}

Test(rpc, many_calls_end_in_any_order)
{
	connect_over("tcp");
	cr_assert_eq(ask("hold", NULL, &one, NULL), STATUS_OK);
	for (int i = 0; i < 500; i++) {
		char name[16];
		snprintf(name, sizeof name, "gw%d", i);
		cr_assert_eq(ask(name, NULL, &many[i], NULL), STATUS_OK);
	}
	step_until(many_done);
	for (int i = 0; i < 500; i++) {
		char name[16];
		snprintf(name, sizeof name, "gw%d", i);
		cr_assert_str_eq(many[i].name, name);
	}
	cr_expect_not(one.done, "the first call is still held");
}

Test(rpc, deadline_ends_the_call_on_both_sides)
{
	connect_over("ipc");
	struct rpc_call_options options = {.deadline_ms = 100};
	cr_assert_eq(ask("hold", &options, &one, NULL), STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_DEADLINE_EXCEEDED);
	cr_expect_eq(held_ended, 1);
	cr_expect_eq(held_why, STATUS_DEADLINE_EXCEEDED);
}

Test(rpc, cancel_is_told_to_the_handler)
{
	uint64_t id;
	connect_over("ipc");
	ask("hold", NULL, &one, &id);
	step_until(is_held);
	rpc_client_cancel(client, id);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_CANCELLED);
	cr_expect_eq(held_why, STATUS_CANCELLED);
}

Test(rpc, unknown_method_and_forbidden_method)
{
	Postern__V1__GatewayAddRequest request = POSTERN__V1__GATEWAY_ADD_REQUEST__INIT;
	struct error err;
	connect_over("ipc");
	cr_assert_eq(rpc_client_call(client, &postern__v1__gateways__descriptor, "Add",
			     &request.base, NULL, on_answer, &one, NULL, &err),
		STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_PERMISSION_DENIED);
	cr_expect_neq(rpc_client_call(client, &postern__v1__gateways__descriptor, "Nothing",
			      &request.base, NULL, on_answer, &one, NULL, &err),
		STATUS_OK);
}

/* ---- streams ---- */

static uint64_t items;
static bool in_order = true;

static void on_item(void *arg, const ProtobufCMessage *item)
{
	(void)arg;
	in_order &= ((const Postern__V1__EventBatch *)item)->cursor == ++items;
}

static enum status start_stream(uint64_t count, uint32_t credit)
{
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	struct rpc_call_options options = {.on_item = on_item, .credit = credit};
	request.cursor = count;
	return rpc_client_call(client, &postern__v1__events__descriptor, "Watch", &request.base,
		&options, on_answer, &one, NULL, &one.err);
}

Test(rpc, stream_delivers_all_items_in_order_and_ends)
{
	connect_over("tcp");
	cr_assert_eq(start_stream(10000, 16), STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_OK, "%s", one.err.text);
	cr_expect_eq(items, 10000);
	cr_expect(in_order);
}

Test(rpc, stream_needs_credit)
{
	connect_over("tcp");
	cr_assert_eq(start_stream(1000000, 4), STATUS_OK);
	int64_t until = clock_mono_us() + DEADLINE_US;
	while (items == 0 && clock_mono_us() < until)
		loop_step(loop, 50);
	cr_expect_leq(
		sent_items, items + 4, "no more items are under way than credit was given for");
}

/* ---- link ---- */

Test(rpc, wrong_token_is_said_plainly)
{
	serve("ipc", NULL);
	dial("wrong", "cert.pem", false, NULL);
	step_until(is_error);
	cr_expect_eq(state_error.status, STATUS_UNAUTHENTICATED, "%s", state_error.text);
	cr_expect_eq(state, RPC_CLIENT_CLOSED);
}

Test(rpc, wrong_ca_is_said_plainly)
{
	make_certificates();
	serve("tls+tcp", NULL);
	dial("right", "other.pem", false, NULL);
	step_until(is_error);
	cr_expect_eq(state_error.status, STATUS_UNAVAILABLE);
	cr_expect_not_null(strstr(state_error.text, "certificate"), "%s", state_error.text);
}

Test(rpc, nobody_listens)
{
	snprintf(url, sizeof url, "ipc://%s/nothing", folder);
	dial("right", "cert.pem", false, NULL);
	step_until(is_error);
	cr_expect_eq(state_error.status, STATUS_UNAVAILABLE);
}

static bool is_lost(void)
{
	return state != RPC_CLIENT_READY;
}

Test(rpc, a_lost_connection_fails_sent_calls_and_comes_back)
{
	connect_over("ipc");
	ask("hold", NULL, &one, NULL);
	step_until(is_held);
	rpc_server_free(server);
	server = NULL;
	step_until(is_lost);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_UNAVAILABLE, "%d %s", one.err.status, one.err.text);
	cr_expect_eq(held_ended, 1);
	struct rpc_call_options options = {.deadline_ms = 9000, .wait_for_ready = true};
	cr_assert_eq(ask("later", &options, &one, NULL), STATUS_OK);
	serve("ipc", NULL);
	step_until(one_done);
	cr_expect_str_eq(one.name, "later");
	cr_expect_eq(ready_count, 2);
}

Test(rpc, close_ends_calls_with_cancelled)
{
	connect_over("ipc");
	ask("hold", NULL, &one, NULL);
	rpc_client_close(client);
	cr_expect(one.done);
	cr_expect_eq(one.err.status, STATUS_CANCELLED);
}

Test(rpc, heartbeats_keep_an_idle_connection_alive)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.heartbeat_ms = 50;
	limits.idle_timeout_ms = 200;
	serve("ipc", &limits);
	dial("right", "cert.pem", false, &limits);
	step_until(is_ready);
	int64_t until = clock_mono_us() + 1000000;
	while (clock_mono_us() < until)
		loop_step(loop, 20);
	cr_expect_eq(state, RPC_CLIENT_READY, "%s", state_error.text);
}

/* ---- strangers ---- */

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

static int stranger(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof address.sun_path, "%s/sock", folder);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	cr_assert_geq(fd, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

static struct rpc_stats stats(void)
{
	struct rpc_stats now;
	rpc_server_stats(server, &now);
	return now;
}

static bool all_gone(void)
{
	struct rpc_stats now = stats();
	return now.accepted > 0 && now.connections == 0;
}

Test(rpc, garbage_is_closed)
{
	serve("ipc", NULL);
	int fd = stranger();
	cr_assert_eq(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	step_until(all_gone);
	cr_expect_eq(stats().malformed, 1);
	close(fd);
}

Test(rpc, silence_before_hello_is_closed)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.hello_timeout_ms = 100;
	serve("ipc", &limits);
	int fd = stranger();
	step_until(all_gone);
	cr_expect_eq(stats().hello_timeouts, 1);
	close(fd);
}

static bool three_accepted(void)
{
	return stats().accepted == 3;
}

Test(rpc, strangers_are_capped)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.max_unauthenticated = 2;
	serve("ipc", &limits);
	int fds[3] = {stranger(), stranger(), stranger()};
	step_until(three_accepted);
	cr_expect_eq(stats().refused, 1);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static bool slow_reader_seen(void)
{
	return stats().slow_readers > 0;
}

Test(rpc, a_peer_that_never_reads_is_closed)
{
	struct rpc_limits limits = rpc_default_limits;
	static uint8_t call[64];
	limits.max_queued_bytes = 256 * 1024;
	serve("ipc", &limits);
	int fd = stranger();
	/* Hello{versions [1], token "right"}, then a Watch with more credit than the queue may
	 * hold. */
	static const uint8_t greeting[] = {
		0, 0, 0, 14, 16, 1, 74, 10, 10, 1, 1, 18, 5, 'r', 'i', 'g', 'h', 't'};
	cr_assert_eq(write(fd, greeting, sizeof greeting), (ssize_t)sizeof greeting);
	size_t n = 4;
	call[n++] = 8, call[n++] = 1, call[n++] = 16, call[n++] = 3, call[n++] = 26, call[n++] = 23;
	memcpy(call + n, "postern.v1.Events/Watch", 23);
	n += 23;
	call[n++] = 40, call[n++] = 0x80, call[n++] = 0x89, call[n++] = 0x7a; /* credit 2,000,000 */
	call[n++] = 74, call[n++] = 4, call[n++] = 16, call[n++] = 0xc0, call[n++] = 0x84,
	call[n++] = 0x3d; /* cursor 1,000,000 */
	call[3] = (uint8_t)(n - 4);
	cr_assert_eq(write(fd, call, n), (ssize_t)n);
	int64_t until = clock_mono_us() + DEADLINE_US;
	while (!slow_reader_seen() && clock_mono_us() < until)
		loop_step(loop, 50);
	cr_expect(slow_reader_seen());
	close(fd);
}
