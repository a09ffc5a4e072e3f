/* Design.
 *
 * A call is found by (peer, call id) while somebody waits for it, and belongs to its handler until
 * the handler ended it. Its peer may go first: then the peer stays as an empty shell (no
 * connection) until its last call was ended, so that rpc_call_principal() stays valid and
 * rpc_fail() has nothing to send.
 *
 *   frame CALL -> authorise -> unpack -> handler(service, input, NULL, call)
 *              ... rpc_item()* ... rpc_reply | rpc_fail | rpc_end
 *
 * on_end tells the handler at most once that nobody waits any more; it never ends the call by
 * itself. protobuf-c's descriptors do not say which methods stream: a call is unary or a stream by
 * what its handler does. */
#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/rpc/frame.h"
#include "proto/rpc/server.h"

struct rpc_call {
	struct table_node node;
	struct peer *peer;
	uint32_t id;
	int64_t deadline_us;
	struct loop_timer deadline;
	uint32_t credit;
	bool ended_told, in_table;
	void (*on_end)(void *arg, enum status why);
	void *on_end_arg;
	void (*on_credit)(void *arg);
	void *on_credit_arg;
};

static bool match_call(const struct table_node *node, const void *key, size_t size)
{
	const struct rpc_call *call = TABLE_OWNER(node, struct rpc_call, node);
	(void)size;
	return memcmp(&call->id, key, sizeof call->id) == 0;
}

void calls_init(struct peer *peer)
{
	table_init(&peer->calls, match_call);
}

static struct rpc_call *find_call(struct peer *peer, uint32_t id)
{
	struct table_node *node = table_find(&peer->calls, &id, sizeof id);
	return node ? TABLE_OWNER(node, struct rpc_call, node) : NULL;
}

/* ---- the end of a call ---- */

static void call_tell(struct rpc_call *call, enum status why)
{
	if (call->ended_told)
		return;
	call->ended_told = true;
	if (call->on_end)
		call->on_end(call->on_end_arg, why);
}

/* Calls of a peer, in bounded batches of ids, because a handler that is told may end other calls.
 */
struct batch {
	uint32_t ids[64];
	size_t count;
};

static void collect(struct table_node *node, void *arg)
{
	struct batch *batch = arg;
	if (batch->count < sizeof batch->ids / sizeof *batch->ids)
		batch->ids[batch->count++] = TABLE_OWNER(node, struct rpc_call, node)->id;
}

static void leave_table(struct rpc_call *call)
{
	if (call->in_table)
		table_remove(&call->peer->calls, &call->node);
	call->in_table = false;
	loop_timer_clear(call->peer->server->config.loop, &call->deadline);
}

void calls_abandon(struct peer *peer)
{
	struct batch batch;
	peer->call_count++; /* keeps the shell while handlers end their calls */
	do {
		batch.count = 0;
		table_each(&peer->calls, collect, &batch);
		for (size_t i = 0; i < batch.count; i++) {
			struct rpc_call *call = find_call(peer, batch.ids[i]);
			if (!call)
				continue;
			leave_table(call);
			call_tell(call, STATUS_UNAVAILABLE);
		}
	} while (batch.count > 0);
	peer->call_count--;
	peer_release(peer);
}

static void send_error(struct peer *peer, uint32_t id, const struct error *err)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	Postern__V1__ErrorDetail detail = POSTERN__V1__ERROR_DETAIL__INIT;
	struct error clean = *err;
	if (!peer->conn)
		return;
	frame_clean_text(clean.text);
	frame_clean_text(clean.rule);
	frame_clean_text(clean.grant);
	frame_clean_text(clean.field);
	detail.reason = (Postern__V1__ErrorReason)clean.reason;
	detail.rule = clean.rule;
	detail.grant = clean.grant;
	detail.field = clean.field;
	detail.revision = clean.revision;
	frame.call = id;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_REPLY;
	frame.status = (uint32_t)clean.status;
	frame.message = clean.text;
	frame.detail = &detail;
	(void)conn_send(peer->conn, &frame, NULL);
}

static void send_reply(struct peer *peer, uint32_t id, const ProtobufCMessage *reply)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	struct error err = {0};
	frame.call = id;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_REPLY;
	if (!peer->conn || conn_send(peer->conn, &frame, reply) != STATUS_INVALID_ARGUMENT)
		return;
	error_set(&err, STATUS_RESOURCE_EXHAUSTED,
		"the reply is larger than a frame: ask for less at once");
	send_error(peer, id, &err);
}

static void call_finish(
	struct rpc_call *call, const struct error *err, const ProtobufCMessage *reply)
{
	struct peer *peer = call->peer;
	leave_table(call);
	if (err)
		send_error(peer, call->id, err);
	else
		send_reply(peer, call->id, reply);
	peer->call_count--;
	peer->server->stats.calls--;
	free(call);
	peer_release(peer);
}

/* ---- the beginning of a call ---- */

static bool has_handler(const ProtobufCService *service, unsigned index)
{
	/* The generated struct is the base and then one function pointer a method. */
	void (*const *handlers)(void) = (void (*const *)(void))(service + 1);
	return handlers[index] != NULL;
}

/* Finds service and method of "postern.v1.Grants/Request". */
static ProtobufCService *find_method(
	struct rpc_server *server, const char *path, unsigned *ret_index)
{
	const char *slash = strchr(path, '/');
	if (!slash)
		return NULL;
	for (size_t i = 0; i < server->service_count; i++) {
		const ProtobufCServiceDescriptor *type = server->services[i]->descriptor;
		size_t length = (size_t)(slash - path);
		if (strlen(type->name) != length || memcmp(type->name, path, length) != 0)
			continue;
		const ProtobufCMethodDescriptor *method =
			protobuf_c_service_descriptor_get_method_by_name(type, slash + 1);
		if (!method)
			return NULL;
		*ret_index = (unsigned)(method - type->methods);
		return has_handler(server->services[i], *ret_index) ? server->services[i] : NULL;
	}
	return NULL;
}

static enum status check_call(struct peer *peer, const Postern__V1__Frame *frame,
	ProtobufCService **ret_service, unsigned *ret_index, struct error *err)
{
	struct rpc_server *server = peer->server;
	if (peer->call_count >= server->config.limits.max_calls)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"more than %zu calls in flight on one connection: wait for answers",
			server->config.limits.max_calls);
	*ret_service = find_method(server, frame->method, ret_index);
	if (!*ret_service)
		return error_set(err, STATUS_UNIMPLEMENTED,
			"%.100s: this server has no such method", frame->method);
	return server->config.authorise(server->config.arg, &peer->principal, frame->method, err);
}

static void deadline_passed(void *arg)
{
	call_tell(arg, STATUS_DEADLINE_EXCEEDED);
}

static struct rpc_call *call_new(struct peer *peer, const Postern__V1__Frame *frame)
{
	struct rpc_call *call = calloc(1, sizeof *call);
	if (!call)
		return NULL;
	call->peer = peer;
	call->id = frame->call;
	call->credit = frame->credit;
	call->deadline_us = CLOCK_NEVER;
	call->in_table = table_insert(&peer->calls, &call->node, &call->id, sizeof call->id);
	if (!call->in_table) {
		free(call);
		return NULL;
	}
	if (frame->deadline_ms > 0) {
		call->deadline_us = clock_mono_us() + (int64_t)frame->deadline_ms * 1000;
		loop_timer_set(peer->server->config.loop, &call->deadline, call->deadline_us,
			deadline_passed, call);
	}
	peer->call_count++;
	peer->server->stats.calls++;
	peer->server->stats.calls_total++;
	return call;
}

static void handle_call(struct peer *peer, const Postern__V1__Frame *frame)
{
	const ProtobufCMessageDescriptor *type;
	ProtobufCService *service = NULL;
	ProtobufCMessage *input = NULL;
	struct rpc_call *call;
	unsigned index = 0;
	struct error err = {0};
	if (check_call(peer, frame, &service, &index, &err))
		goto refuse;
	type = service->descriptor->methods[index].input;
	input = message_unpack(type, frame->body.data, frame->body.len);
	if (!input) {
		error_set(&err, STATUS_INVALID_ARGUMENT,
			"%.100s: the body is not a %s with texts in UTF-8", frame->method,
			type->name);
		goto refuse;
	}
	call = call_new(peer, frame);
	if (!call) {
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		goto refuse;
	}
	service->invoke(service, index, input, NULL, call);
	message_free(input);
	return;
refuse:
	message_free(input);
	send_error(peer, frame->call, &err);
}

static void handle_credit(struct rpc_call *call, uint32_t credit)
{
	bool was_empty = call->credit == 0;
	call->credit = credit > UINT32_MAX - call->credit ? UINT32_MAX : call->credit + credit;
	if (was_empty && call->credit > 0 && call->on_credit && !call->ended_told)
		call->on_credit(call->on_credit_arg);
}

void calls_frame(struct peer *peer, const Postern__V1__Frame *frame)
{
	struct rpc_call *call = find_call(peer, frame->call);
	struct error err = {0};
	if (frame->kind == POSTERN__V1__FRAME_KIND__FRAME_KIND_CREDIT) {
		if (call)
			handle_credit(call, frame->credit);
	} else if (frame->kind == POSTERN__V1__FRAME_KIND__FRAME_KIND_CANCEL) {
		if (call)
			call_tell(call, STATUS_CANCELLED);
	} else if (call || frame->call == 0) {
		/* A refusal could not be told from the answer to the other call. */
		peer->server->stats.malformed++;
		error_set(&err, STATUS_INVALID_ARGUMENT,
			"call id %u: the id of a new call must not be 0 and not be in use",
			frame->call);
		conn_goodbye(peer->conn, &err);
	} else {
		handle_call(peer, frame);
	}
}

/* ---- for handlers ---- */

const struct rpc_principal *rpc_call_principal(const struct rpc_call *call)
{
	return &call->peer->principal;
}

uint64_t rpc_call_connection(const struct rpc_call *call)
{
	return call->peer->id;
}

int64_t rpc_call_deadline(const struct rpc_call *call)
{
	return call->deadline_us;
}

void rpc_call_disconnect(struct rpc_call *call, const struct error *why)
{
	if (call->peer->conn)
		conn_goodbye(call->peer->conn, why);
}

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *reply)
{
	call_finish(call, NULL, reply);
}

void rpc_fail(struct rpc_call *call, const struct error *err)
{
	call_finish(call, err, NULL);
}

void rpc_end(struct rpc_call *call)
{
	call_finish(call, NULL, NULL);
}

static enum status send_item(
	struct rpc_call *call, Postern__V1__Frame *frame, const ProtobufCMessage *item)
{
	if (!call->peer->conn)
		return STATUS_UNAVAILABLE;
	if (call->credit == 0)
		return STATUS_RESOURCE_EXHAUSTED;
	frame->call = call->id;
	frame->kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_ITEM;
	enum status status = conn_send(call->peer->conn, frame, item);
	if (status == STATUS_OK)
		call->credit--;
	return status;
}

enum status rpc_item(struct rpc_call *call, const ProtobufCMessage *item)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	return send_item(call, &frame, item);
}

enum status rpc_item_packed(struct rpc_call *call, const void *bytes, size_t size)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	frame.body.len = size;
	frame.body.data = (uint8_t *)(uintptr_t)bytes;
	return send_item(call, &frame, NULL);
}

uint32_t rpc_credit(const struct rpc_call *call)
{
	return call->credit;
}

void rpc_on_credit(struct rpc_call *call, void (*cb)(void *arg), void *arg)
{
	call->on_credit = cb;
	call->on_credit_arg = arg;
}

void rpc_on_end(struct rpc_call *call, void (*cb)(void *arg, enum status why), void *arg)
{
	call->on_end = cb;
	call->on_end_arg = arg;
}
