/* Design.
 *
 *   start -> CONNECTING -> (dial, hello, welcome) -> READY -> (lost) -> CONNECTING ... -> CLOSED
 *
 * One timer drives the link: the next try while nothing is connected, the handshake's deadline
 * while one is. Tries are spaced with full jitter over a doubling span (100 ms to 15 s), so that a
 * fleet whose server restarted does not come back as one herd; a refused token is tried again at
 * the slowest pace, because the administrator may mend it.
 *
 * A call lives in the table from rpc_client_call() until its done callback. Calls that wait for the
 * link keep their packed request and are sent, in no particular order, when it is ready; those that
 * were sent end with UNAVAILABLE when it is lost: whether to try again is the caller's knowledge.
 * Each call has one timer: its deadline, or "now" for a cancellation that no reply will follow. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/loop.h"
#include "common/table.h"
#include "proto/rpc/conn.h"
#include "proto/rpc/frame.h"
#include "proto/rpc/rpc.h"
#include "proto/rpc/stream.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MOST_MS 15000
#define ANSWER_GRACE_US                                                                            \
	250000 /* the server answers at the deadline; its answer needs time to arrive */
#define CANCEL_GRACE_US 1000000
#define DEFAULT_CREDIT 16
#define PROTOCOL_VERSION 1

struct call {
	struct table_node node;
	struct rpc_client *client;
	uint32_t id;
	const ProtobufCMethodDescriptor *method;
	char path[128];
	uint8_t *request; /* packed, until sent */
	size_t request_size;
	int64_t deadline_us; /* CLOCK_NEVER = none */
	struct loop_timer timer;
	bool sent, cancelled;
	uint32_t window, consumed;
	rpc_item_cb on_item;
	rpc_done_cb done;
	void *arg;
};

struct rpc_client {
	struct rpc_client_config config;
	struct stream_group group;
	struct stream_tls tls;
	char *url, *token, *name, *ca_file, *server_name;
	struct stream_dialer *dialer;
	struct conn *conn;
	struct loop_timer link;
	struct rpc_welcome welcome;
	enum rpc_client_state state;
	bool said_goodbye;
	struct error goodbye;
	uint32_t span_ms;
	struct table calls;
	uint32_t next_call;
	size_t queued_total;
};

static void connect_now(void *arg);

/* ---- calls ---- */

static bool match_call(const struct table_node *node, const void *key, size_t size)
{
	const struct call *call = TABLE_OWNER(node, struct call, node);
	(void)size;
	return memcmp(&call->id, key, sizeof call->id) == 0;
}

static struct call *find_call(struct rpc_client *client, uint32_t id)
{
	struct table_node *node = table_find(&client->calls, &id, sizeof id);
	return node ? TABLE_OWNER(node, struct call, node) : NULL;
}

static void call_finish(struct call *call, const ProtobufCMessage *reply, const struct error *err)
{
	struct rpc_client *client = call->client;
	table_remove(&client->calls, &call->node);
	loop_timer_clear(client->config.loop, &call->timer);
	call->done(call->arg, reply, err);
	free(call->request);
	free(call);
}

static void call_fail(struct call *call, enum status status, const char *text)
{
	struct error err;
	error_reason(&err, status,
		status == STATUS_DEADLINE_EXCEEDED ? REASON_DEADLINE : REASON_NONE, "%s", text);
	call_finish(call, NULL, &err);
}

static void send_cancel(struct call *call)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	frame.call = call->id;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_CANCEL;
	if (call->sent && call->client->conn)
		(void)conn_send(call->client->conn, &frame);
}

static void call_timer(void *arg)
{
	struct call *call = arg;
	if (call->cancelled) {
		call_fail(call, STATUS_CANCELLED, "the call was cancelled");
		return;
	}
	send_cancel(call);
	call_fail(call, STATUS_DEADLINE_EXCEEDED,
		call->sent ? "no answer from the policy server before the deadline"
			   : "no connection to the policy server before the deadline");
}

/* False: the request cannot be sent, and the call has ended. */
static bool call_send(struct call *call)
{
	struct rpc_client *client = call->client;
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	frame.call = call->id;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_CALL;
	frame.method = call->path;
	frame.credit = call->window;
	frame.body.data = call->request;
	frame.body.len = call->request_size;
	if (call->deadline_us != CLOCK_NEVER) {
		int64_t left = (call->deadline_us - clock_mono_us()) / 1000;
		frame.deadline_ms = left < 1 ? 1 : (uint32_t)left;
		loop_timer_set(client->config.loop, &call->timer,
			call->deadline_us + ANSWER_GRACE_US, call_timer, call);
	}
	call->sent = true;
	if (conn_send(client->conn, &frame) == STATUS_INVALID_ARGUMENT) {
		call_fail(call, STATUS_INVALID_ARGUMENT, "the request is larger than a frame");
		return false;
	}
	free(call->request);
	call->request = NULL;
	return true;
}

/* A round over the calls, in bounded batches of ids: what is called may end, add or cancel calls.
 * `act` must make each call it gets unwanted, so that the rounds end. */
struct batch {
	uint32_t ids[64];
	size_t count;
	bool (*wanted)(const struct call *call);
};

static void collect(struct table_node *node, void *arg)
{
	struct batch *batch = arg;
	const struct call *call = TABLE_OWNER(node, struct call, node);
	if (batch->count < sizeof batch->ids / sizeof *batch->ids && batch->wanted(call))
		batch->ids[batch->count++] = call->id;
}

static void for_calls(struct rpc_client *client, bool (*wanted)(const struct call *call),
	void (*act)(struct call *call, const struct error *err), const struct error *err)
{
	struct batch batch = {.wanted = wanted};
	do {
		batch.count = 0;
		table_each(&client->calls, collect, &batch);
		for (size_t i = 0; i < batch.count; i++) {
			struct call *call = find_call(client, batch.ids[i]);
			if (call && wanted(call))
				act(call, err);
		}
	} while (batch.count > 0);
}

static bool is_waiting(const struct call *call)
{
	return !call->sent && !call->cancelled && call->client->state == RPC_CLIENT_READY;
}

static void send_waiting(struct call *call, const struct error *err)
{
	(void)err;
	(void)call_send(call);
}

static bool is_sent(const struct call *call)
{
	return call->sent;
}

static void fail_sent(struct call *call, const struct error *err)
{
	call_finish(call, NULL, err);
}

static bool is_any(const struct call *call)
{
	(void)call;
	return true;
}

static void cancel_each(struct call *call, const struct error *err)
{
	send_cancel(call);
	call_finish(call, NULL, err);
}

static void cancel_all(struct rpc_client *client)
{
	struct error err;
	error_set(&err, STATUS_CANCELLED, "the connection was closed by this program");
	for_calls(client, is_any, cancel_each, &err);
}

static const ProtobufCMethodDescriptor *find_method(
	const ProtobufCServiceDescriptor *service, const char *name)
{
	return protobuf_c_service_descriptor_get_method_by_name(service, name);
}

enum status rpc_client_call(struct rpc_client *client, const ProtobufCServiceDescriptor *service,
	const char *method, const ProtobufCMessage *request, const struct rpc_call_options *options,
	rpc_done_cb done, void *arg, uint64_t *ret_call, struct error *err)
{
	static const struct rpc_call_options plain;
	const ProtobufCMethodDescriptor *found = find_method(service, method);
	struct call *call;
	if (!options)
		options = &plain;
	if (!found || found->input != request->descriptor)
		return error_set(err, STATUS_INTERNAL, "%s/%s: no such method for this request",
			service->name, method);
	if (client->state == RPC_CLIENT_CLOSED)
		return error_set(err, STATUS_CANCELLED,
			"%s: the connection was closed by this program", client->url);
	if (client->state != RPC_CLIENT_READY && !options->wait_for_ready)
		return error_set(err, STATUS_UNAVAILABLE, "%s: not connected to the policy server",
			client->url);
	if (table_count(&client->calls) >= (client->welcome.max_calls
							   ? client->welcome.max_calls
							   : client->config.limits.max_calls))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"too many calls in flight: wait for answers");
	call = calloc(1, sizeof *call);
	if (!call)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	call->client = client;
	call->method = found;
	call->on_item = options->on_item;
	call->window = options->on_item ? (options->credit ? options->credit : DEFAULT_CREDIT) : 0;
	call->done = done;
	call->arg = arg;
	call->deadline_us = options->deadline_ms
		? clock_mono_us() + (int64_t)options->deadline_ms * 1000
		: CLOCK_NEVER;
	snprintf(call->path, sizeof call->path, "%s/%s", service->name, method);
	call->request_size = protobuf_c_message_get_packed_size(request);
	call->request = malloc(call->request_size ? call->request_size : 1);
	do
		call->id = ++client->next_call;
	while (call->id == 0 || find_call(client, call->id));
	if (call->request_size > client->config.limits.max_frame_bytes - 256) {
		free(call->request);
		free(call);
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: the request is larger than a frame", method);
	}
	if (!call->request ||
		!table_insert(&client->calls, &call->node, &call->id, sizeof call->id)) {
		free(call->request);
		free(call);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	protobuf_c_message_pack(request, call->request);
	if (ret_call)
		*ret_call = call->id;
	if (call->deadline_us != CLOCK_NEVER)
		loop_timer_set(
			client->config.loop, &call->timer, call->deadline_us, call_timer, call);
	if (client->state == RPC_CLIENT_READY)
		(void)call_send(call);
	return STATUS_OK;
}

void rpc_client_cancel(struct rpc_client *client, uint64_t id)
{
	struct call *call = find_call(client, (uint32_t)id);
	if (!call || call->cancelled)
		return;
	call->cancelled = true;
	send_cancel(call);
	loop_timer_set(client->config.loop, &call->timer,
		clock_mono_us() + (call->sent ? CANCEL_GRACE_US : 0), call_timer, call);
}

/* ---- frames ---- */

static void handle_reply(struct rpc_client *client, const Postern__V1__Frame *frame)
{
	struct call *call = find_call(client, frame->call);
	struct error err = {0};
	ProtobufCMessage *reply = NULL;
	if (!call)
		return;
	if (frame->status != 0) {
		error_set(&err,
			frame->status <= STATUS_UNAUTHENTICATED ? (enum status)frame->status
								: STATUS_UNKNOWN,
			"%s", frame->message);
		if (frame->detail) {
			err.reason = (enum reason)frame->detail->reason;
			snprintf(err.rule, sizeof err.rule, "%s", frame->detail->rule);
			snprintf(err.grant, sizeof err.grant, "%s", frame->detail->grant);
			snprintf(err.field, sizeof err.field, "%s", frame->detail->field);
		}
	} else if (!call->on_item) {
		reply = message_unpack(call->method->output, frame->body.data, frame->body.len);
		if (!reply)
			error_set(&err, STATUS_INTERNAL, "%s: the server's answer is not a %s",
				call->path, call->method->output->name);
	}
	call_finish(call, reply, &err);
	message_free(reply);
}

static void handle_item(struct rpc_client *client, const Postern__V1__Frame *frame)
{
	struct call *call = find_call(client, frame->call);
	if (!call || !call->on_item || call->cancelled)
		return;
	ProtobufCMessage *item =
		message_unpack(call->method->output, frame->body.data, frame->body.len);
	if (!item) {
		send_cancel(call);
		call_fail(call, STATUS_INTERNAL, "an item of the stream could not be read");
		return;
	}
	uint32_t id = call->id;
	call->on_item(call->arg, item);
	message_free(item);
	/* The callback may have closed the client or let the call end. */
	call = client->conn ? find_call(client, id) : NULL;
	if (!call || call->cancelled || ++call->consumed < (call->window + 1) / 2)
		return;
	Postern__V1__Frame credit = POSTERN__V1__FRAME__INIT;
	credit.call = id;
	credit.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_CREDIT;
	credit.credit = call->consumed;
	call->consumed = 0;
	(void)conn_send(client->conn, &credit);
}

static void tell(struct rpc_client *client, enum rpc_client_state state, const struct error *err)
{
	client->state = state;
	if (client->config.on_state)
		client->config.on_state(client->config.arg, state,
			state == RPC_CLIENT_READY ? &client->welcome : NULL, err);
}

static void handle_welcome(struct rpc_client *client, const Postern__V1__Frame *frame)
{
	Postern__V1__Welcome *message = (Postern__V1__Welcome *)message_unpack(
		&postern__v1__welcome__descriptor, frame->body.data, frame->body.len);
	struct error err = {0};
	if (!message)
		return;
	snprintf(client->welcome.server, sizeof client->welcome.server, "%s", message->server);
	snprintf(client->welcome.principal, sizeof client->welcome.principal, "%s",
		message->principal);
	snprintf(client->welcome.role, sizeof client->welcome.role, "%s", message->role);
	client->welcome.max_calls = message->max_calls;
	client->welcome.max_frame_bytes = message->max_frame_bytes;
	client->conn->max_frame = client->config.limits.max_frame_bytes;
	/* The server's limits hold: beat often enough for it. */
	if (message->heartbeat_ms > 0 && message->heartbeat_ms < client->conn->heartbeat_ms)
		client->conn->heartbeat_ms = message->heartbeat_ms;
	message_free(&message->base);
	loop_timer_clear(client->config.loop, &client->link);
	client->span_ms = BACKOFF_FIRST_MS;
	tell(client, RPC_CLIENT_READY, &err);
	for_calls(client, is_waiting, send_waiting, NULL);
}

static void on_frame(void *arg, const Postern__V1__Frame *frame)
{
	struct rpc_client *client = arg;
	switch (frame->kind) {
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_WELCOME:
		if (client->state == RPC_CLIENT_CONNECTING)
			handle_welcome(client, frame);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_REPLY:
		handle_reply(client, frame);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_ITEM:
		handle_item(client, frame);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_GOODBYE:
		client->said_goodbye = true;
		error_set(&client->goodbye,
			frame->status && frame->status <= STATUS_UNAUTHENTICATED
				? (enum status)frame->status
				: STATUS_UNAVAILABLE,
			"%s: %s", client->url, frame->message);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_UNSPECIFIED:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_HELLO:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CALL:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CREDIT:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CANCEL:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_PING:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_PONG:
	case _POSTERN__V1__FRAME_KIND_IS_INT_SIZE:
		return; /* a newer server's frame */
	}
}

/* ---- link ---- */

static void lost(struct rpc_client *client, const struct error *why)
{
	struct error err = client->said_goodbye ? client->goodbye : *why;
	client->said_goodbye = false;
	conn_free(client->conn);
	client->conn = NULL;
	stream_dialer_free(client->dialer);
	client->dialer = NULL;
	loop_timer_clear(client->config.loop, &client->link);
	if (client->state == RPC_CLIENT_CLOSED)
		return;
	enum rpc_client_state next =
		client->config.reconnect ? RPC_CLIENT_CONNECTING : RPC_CLIENT_CLOSED;
	client->state = next;
	if (err.status == STATUS_UNAUTHENTICATED)
		client->span_ms = BACKOFF_MOST_MS;
	if (client->config.reconnect) {
		uint32_t wait = 1 + randombytes_uniform(client->span_ms);
		loop_timer_set(client->config.loop, &client->link,
			clock_mono_us() + (int64_t)wait * 1000, connect_now, client);
		client->span_ms = client->span_ms > BACKOFF_MOST_MS / 2 ? BACKOFF_MOST_MS
									: client->span_ms * 2;
	}
	struct error gone;
	error_set(&gone, STATUS_UNAVAILABLE, "the connection to the policy server was lost: %.200s",
		err.text);
	for_calls(client, is_sent, fail_sent, &gone);
	if (client->state == next)
		tell(client, next, &err);
}

static void on_closed(void *arg, enum conn_end end, const struct error *err)
{
	struct rpc_client *client = arg;
	struct error why = *err;
	(void)end;
	snprintf(why.text, sizeof why.text, "%.120s: %.190s", client->url, err->text);
	lost(client, &why);
}

static void handshake_late(void *arg)
{
	struct rpc_client *client = arg;
	struct error err;
	error_set(&err, STATUS_UNAVAILABLE,
		"%s: no answer to the hello within %u ms: is it a Postern server?", client->url,
		client->config.limits.hello_timeout_ms);
	lost(client, &err);
}

static void send_hello(struct rpc_client *client)
{
	Postern__V1__Hello message = POSTERN__V1__HELLO__INIT;
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	uint32_t version = PROTOCOL_VERSION;
	uint8_t body[1024];
	message.n_versions = 1;
	message.versions = &version;
	message.token = client->token;
	message.name = client->name;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_HELLO;
	frame.body.data = body;
	frame.body.len = postern__v1__hello__pack(&message, body);
	(void)conn_send(client->conn, &frame);
	sodium_memzero(body, sizeof body);
}

static void dialed(void *arg, struct stream *stream, const struct error *err)
{
	struct rpc_client *client = arg;
	if (!stream) {
		lost(client, err);
		return;
	}
	stream_dialer_free(client->dialer);
	client->dialer = NULL;
	client->conn = conn_new(client->config.loop, stream, &client->config.limits,
		&client->queued_total, on_frame, on_closed, client);
	if (!client->conn) {
		struct error memory;
		error_set(&memory, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", client->url);
		lost(client, &memory);
		return;
	}
	send_hello(client);
}

static void connect_now(void *arg)
{
	struct rpc_client *client = arg;
	struct error err;
	loop_timer_set(client->config.loop, &client->link,
		clock_mono_us() + (int64_t)client->config.limits.hello_timeout_ms * 1000,
		handshake_late, client);
	if (stream_dial(&client->group, client->url, &client->tls, dialed, client, &client->dialer,
		    &err))
		lost(client, &err);
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

enum status rpc_client_new(
	const struct rpc_client_config *config, struct rpc_client **ret_client, struct error *err)
{
	if (!config->url || !config->token)
		return error_set(
			err, STATUS_INVALID_ARGUMENT, "a server URL and a token are needed");
	if (strlen(config->token) > 256 || (config->name && strlen(config->name) > 128))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"the token or the program's name is too long: is it the right token file?");
	if (strncmp(config->url, "tls+tcp://", 10) == 0 && !config->ca_file)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: TLS needs the server's CA: set ca_file (POSTERN_CA_FILE) to its "
			"ca.pem",
			config->url);
	struct rpc_client *client = calloc(1, sizeof *client);
	if (!client)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	client->config = *config;
	client->group.loop = config->loop;
	client->url = copy(config->url);
	client->token = copy(config->token);
	client->name = copy(config->name ? config->name : "");
	client->ca_file = copy(config->ca_file);
	client->server_name = copy(config->server_name);
	client->tls =
		(struct stream_tls){.ca_file = client->ca_file, .server_name = client->server_name};
	client->state = RPC_CLIENT_CONNECTING;
	client->span_ms = BACKOFF_FIRST_MS;
	table_init(&client->calls, match_call);
	if (!client->url || !client->token || !client->name) {
		rpc_client_free(client);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	*ret_client = client;
	return STATUS_OK;
}

void rpc_client_start(struct rpc_client *client)
{
	/* From the loop, so that no callback runs inside this call. */
	loop_timer_set(client->config.loop, &client->link, clock_mono_us(), connect_now, client);
}

void rpc_client_close(struct rpc_client *client)
{
	if (client->state == RPC_CLIENT_CLOSED && !client->conn && !client->dialer) {
		cancel_all(client);
		return;
	}
	client->state = RPC_CLIENT_CLOSED;
	cancel_all(client);
	loop_timer_clear(client->config.loop, &client->link);
	conn_free(client->conn);
	client->conn = NULL;
	stream_dialer_free(client->dialer);
	client->dialer = NULL;
}

void rpc_client_free(struct rpc_client *client)
{
	if (!client)
		return;
	rpc_client_close(client);
	while (client->group.alive > 0)
		loop_step(client->config.loop, 20);
	table_fini(&client->calls);
	if (client->token)
		sodium_memzero(client->token, strlen(client->token));
	free(client->url);
	free(client->token);
	free(client->name);
	free(client->ca_file);
	free(client->server_name);
	free(client);
}

bool rpc_client_is_ready(const struct rpc_client *client)
{
	return client->state == RPC_CLIENT_READY;
}
