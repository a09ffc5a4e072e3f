/* Design.
 *
 * A call lives in the table from rpc_client_call() until its done callback. Calls that wait for the
 * link keep their packed request and are sent, in no particular order, when it is ready; those that
 * were sent end with UNAVAILABLE when it is lost: whether to try again is the caller's knowledge.
 * A request that need not wait is packed straight into the connection's output.
 *
 * Each call has one timer: its deadline, or "now" for an end that no reply will bring. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/rpc/client.h"
#include "proto/rpc/frame.h"

/* The server answers at the deadline; its answer needs time to arrive. */
#define ANSWER_GRACE_US 250000
#define CANCEL_GRACE_US 1000000
#define DEFAULT_CREDIT 16

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
	bool sent, cancelled, oversize;
	uint32_t window, consumed;
	rpc_item_cb on_item;
	rpc_done_cb done;
	void *arg;
};

static bool match_call(const struct table_node *node, const void *key, size_t size)
{
	const struct call *call = TABLE_OWNER(node, struct call, node);
	(void)size;
	return memcmp(&call->id, key, sizeof call->id) == 0;
}

void client_calls_init(struct rpc_client *client)
{
	table_init(&client->calls, match_call);
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
		(void)conn_send(call->client->conn, &frame, NULL);
}

static void call_timer(void *arg)
{
	struct call *call = arg;
	if (call->oversize) {
		call_fail(call, STATUS_INVALID_ARGUMENT,
			"the request is larger than the server's limit for a frame");
		return;
	}
	if (call->cancelled) {
		call_fail(call, STATUS_CANCELLED, "the call was cancelled");
		return;
	}
	send_cancel(call);
	call_fail(call, STATUS_DEADLINE_EXCEEDED,
		call->sent ? "no answer from the policy server before the deadline"
			   : "no connection to the policy server before the deadline");
}

/* `request` when it was not packed because it need not wait. */
static void call_send(struct call *call, const ProtobufCMessage *request)
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
	if (conn_send(client->conn, &frame, request) == STATUS_INVALID_ARGUMENT) {
		call->oversize = true; /* told from the loop, as every end of a call is */
		loop_timer_set(client->config.loop, &call->timer, 0, call_timer, call);
	}
	free(call->request);
	call->request = NULL;
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
	call_send(call, NULL);
}

static bool is_sent(const struct call *call)
{
	return call->sent;
}

static void fail_call(struct call *call, const struct error *err)
{
	call_finish(call, NULL, err);
}

static bool is_any(const struct call *call)
{
	(void)call;
	return true;
}

static void cancel_call(struct call *call, const struct error *err)
{
	send_cancel(call);
	call_finish(call, NULL, err);
}

void client_calls_send(struct rpc_client *client)
{
	for_calls(client, is_waiting, send_waiting, NULL);
}

void client_calls_lost(struct rpc_client *client, const struct error *why)
{
	struct error gone = {0};
	error_set(&gone, STATUS_UNAVAILABLE, "the connection to the policy server was lost: %.200s",
		why->text);
	for_calls(client, is_sent, fail_call, &gone);
}

void client_calls_end(struct rpc_client *client, const struct error *err)
{
	for_calls(client, is_any, cancel_call, err);
}

static size_t max_calls(const struct rpc_client *client)
{
	return client->welcome.max_calls ? client->welcome.max_calls
					 : client->config.limits.max_calls;
}

static enum status check_call(struct rpc_client *client, const ProtobufCServiceDescriptor *service,
	const char *method, const ProtobufCMessage *request, bool wait_for_ready,
	const ProtobufCMethodDescriptor **ret_method, struct error *err)
{
	const ProtobufCMethodDescriptor *found =
		protobuf_c_service_descriptor_get_method_by_name(service, method);
	if (!found || found->input != request->descriptor)
		return error_set(err, STATUS_INTERNAL, "%s/%s: no such method for this request",
			service->name, method);
	if (client->state == RPC_CLIENT_CLOSED)
		return error_set(err, STATUS_CANCELLED,
			"%s: the connection was closed by this program", client->url);
	if (client->state != RPC_CLIENT_READY && !wait_for_ready)
		return error_set(err, STATUS_UNAVAILABLE, "%s: not connected to the policy server",
			client->url);
	if (table_count(&client->calls) >= max_calls(client))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"%zu calls are in flight: wait for answers", table_count(&client->calls));
	if (protobuf_c_message_get_packed_size(request) > client->config.limits.max_frame_bytes)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: the request is larger than a frame", method);
	*ret_method = found;
	return STATUS_OK;
}

static bool keep_request(struct call *call, const ProtobufCMessage *request)
{
	call->request_size = protobuf_c_message_get_packed_size(request);
	call->request = malloc(call->request_size ? call->request_size : 1);
	if (call->request)
		protobuf_c_message_pack(request, call->request);
	return call->request != NULL;
}

enum status rpc_client_call(struct rpc_client *client, const ProtobufCServiceDescriptor *service,
	const char *method, const ProtobufCMessage *request, const struct rpc_call_options *options,
	rpc_done_cb done, void *arg, uint64_t *ret_call, struct error *err)
{
	static const struct rpc_call_options plain;
	const bool is_ready = client->state == RPC_CLIENT_READY;
	if (!options)
		options = &plain;
	struct call *call = calloc(1, sizeof *call);
	if (!call)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	enum status status = check_call(
		client, service, method, request, options->wait_for_ready, &call->method, err);
	if (status)
		goto fail;
	call->client = client;
	call->on_item = options->on_item;
	call->window = options->on_item ? (options->credit ? options->credit : DEFAULT_CREDIT) : 0;
	call->done = done;
	call->arg = arg;
	call->deadline_us = CLOCK_NEVER;
	snprintf(call->path, sizeof call->path, "%s/%s", service->name, method);
	do
		call->id = ++client->next_call;
	while (call->id == 0 || find_call(client, call->id));
	if ((!is_ready && !keep_request(call, request)) ||
		!table_insert(&client->calls, &call->node, &call->id, sizeof call->id)) {
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
		goto fail;
	}
	if (ret_call)
		*ret_call = call->id;
	if (options->deadline_ms > 0) {
		call->deadline_us = clock_mono_us() + (int64_t)options->deadline_ms * 1000;
		loop_timer_set(
			client->config.loop, &call->timer, call->deadline_us, call_timer, call);
	}
	if (is_ready)
		call_send(call, request);
	return STATUS_OK;
fail:
	free(call->request);
	free(call);
	return status;
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

void client_reply(struct rpc_client *client, const Postern__V1__Frame *frame)
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
			err.revision = frame->detail->revision;
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

void client_item(struct rpc_client *client, const Postern__V1__Frame *frame)
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
	(void)conn_send(client->conn, &credit, NULL);
}
