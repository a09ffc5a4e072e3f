/* Design.
 *
 * A peer is one accepted connection. Until its hello was accepted it may send one small frame and
 * has hello_timeout_ms for TLS handshake and hello together; such peers are counted and capped
 * apart from the others.
 *
 * A call is found by (peer, call id) while it is live and belongs to its handler until the handler
 * ended it. Its peer may go first: then the peer stays as an empty shell (no connection) until its
 * last call was ended, so that rpc_call_principal() stays valid and rpc_fail() has nothing to send.
 *
 *   frame CALL -> authorise -> unpack -> handler(service, input, NULL, call) ... rpc_item()* ...
 * rpc_reply | rpc_fail | rpc_end
 *
 * on_end tells the handler at most once that nobody waits any more; it never ends the call by
 * itself. */
#include <protobuf-c/protobuf-c.h>
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

#define SERVICES_MAX 16
#define LISTENERS_MAX 16
#define PROTOCOL_VERSION 1
#define NAME_MAX_BYTES 128
#define TOKEN_MAX_BYTES 256

struct peer {
	struct rpc_server *server;
	struct conn *conn; /* NULL when gone */
	struct rpc_principal principal;
	uint64_t id;
	bool authenticated;
	struct table calls;
	size_t call_count; /* live, also those that outlived the connection */
	struct loop_timer hello;
	struct peer *next, *previous;
};

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

struct rpc_server {
	struct rpc_server_config config;
	struct stream_group group;
	struct stream_tls tls;
	char *identity, *cert, *key, *client_ca;
	ProtobufCService *services[SERVICES_MAX];
	size_t service_count;
	struct stream_listener *listeners[LISTENERS_MAX];
	size_t listener_count;
	struct peer *peers;
	size_t peer_count, unauthenticated;
	uint64_t next_peer;
	size_t queued_total;
	bool closed;
	struct rpc_stats stats;
};

/* ---- peers ---- */

static bool match_call(const struct table_node *node, const void *key, size_t size)
{
	const struct rpc_call *call = TABLE_OWNER(node, struct rpc_call, node);
	(void)size;
	return memcmp(&call->id, key, sizeof call->id) == 0;
}

static void peer_unlink(struct peer *peer)
{
	if (peer->previous)
		peer->previous->next = peer->next;
	else
		peer->server->peers = peer->next;
	if (peer->next)
		peer->next->previous = peer->previous;
}

/* Frees the shell once the connection is gone and the last call was ended. */
static void peer_release(struct peer *peer)
{
	if (peer->conn || peer->call_count > 0)
		return;
	table_fini(&peer->calls);
	free(peer);
}

static void call_tell(struct rpc_call *call, enum status why)
{
	if (call->ended_told)
		return;
	call->ended_told = true;
	if (call->on_end)
		call->on_end(call->on_end_arg, why);
}

/* Nobody waits for this peer's calls any more. In bounded batches of ids, because a handler that is
 * told may end other calls. */
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

static struct rpc_call *find_call(struct peer *peer, uint32_t id)
{
	struct table_node *node = table_find(&peer->calls, &id, sizeof id);
	return node ? TABLE_OWNER(node, struct rpc_call, node) : NULL;
}

static void tell_all(struct peer *peer)
{
	struct batch batch;
	do {
		batch.count = 0;
		table_each(&peer->calls, collect, &batch);
		for (size_t i = 0; i < batch.count; i++) {
			struct rpc_call *call = find_call(peer, batch.ids[i]);
			if (!call)
				continue;
			table_remove(&peer->calls, &call->node);
			call->in_table = false;
			loop_timer_clear(peer->server->config.loop, &call->deadline);
			call_tell(call, STATUS_UNAVAILABLE);
		}
	} while (batch.count > 0);
}

/* The one teardown of a peer: from every failure, from the hello timeout, and from the server's
 * close. */
static void peer_gone(struct peer *peer)
{
	struct rpc_server *server = peer->server;
	if (!peer->conn)
		return;
	conn_free(peer->conn);
	peer->conn = NULL;
	loop_timer_clear(server->config.loop, &peer->hello);
	if (!peer->authenticated)
		server->unauthenticated--;
	server->peer_count--;
	server->stats.closed++;
	peer_unlink(peer);
	peer->call_count++; /* keeps the shell while handlers end their calls below */
	tell_all(peer);
	peer->call_count--;
	peer_release(peer);
}

static void on_closed(void *arg, enum conn_end end, const struct error *err)
{
	struct peer *peer = arg;
	(void)err;
	switch (end) {
	case CONN_CLOSED:
		break;
	case CONN_MALFORMED:
		peer->server->stats.malformed++;
		break;
	case CONN_IDLE:
		peer->server->stats.idle_timeouts++;
		break;
	case CONN_SLOW_READER:
		peer->server->stats.slow_readers++;
		break;
	}
	peer_gone(peer);
}

static void hello_late(void *arg)
{
	struct peer *peer = arg;
	peer->server->stats.hello_timeouts++;
	peer_gone(peer);
}

static void on_frame(void *arg, const Postern__V1__Frame *frame);

static void on_accept(void *arg, struct stream *stream)
{
	struct rpc_server *server = arg;
	const struct rpc_limits *limits = &server->config.limits;
	struct peer *peer = NULL;
	server->stats.accepted++;
	if (!server->closed && server->peer_count < limits->max_connections &&
		server->unauthenticated < limits->max_unauthenticated)
		peer = calloc(1, sizeof *peer);
	if (!peer) {
		server->stats.refused++;
		stream_free(stream);
		return;
	}
	peer->server = server;
	peer->id = ++server->next_peer;
	table_init(&peer->calls, match_call);
	peer->conn = conn_new(server->config.loop, stream, limits, &server->queued_total, on_frame,
		on_closed, peer);
	if (!peer->conn) {
		server->stats.refused++;
		free(peer);
		return;
	}
	loop_timer_set(server->config.loop, &peer->hello,
		clock_mono_us() + (int64_t)limits->hello_timeout_ms * 1000, hello_late, peer);
	peer->next = server->peers;
	if (peer->next)
		peer->next->previous = peer;
	server->peers = peer;
	server->peer_count++;
	server->unauthenticated++;
}

/* ---- hello ---- */

static void refuse(struct peer *peer, const struct error *why)
{
	loop_timer_clear(peer->server->config.loop, &peer->hello);
	conn_goodbye(peer->conn, why);
}

static enum status check_hello(
	struct peer *peer, const Postern__V1__Hello *hello, struct error *err)
{
	struct rpc_server *server = peer->server;
	bool speaks = false;
	for (size_t i = 0; i < hello->n_versions; i++)
		speaks |= hello->versions[i] == PROTOCOL_VERSION;
	if (!speaks)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"hello: this server speaks version %d of the protocol only: use a client "
			"of the same release",
			PROTOCOL_VERSION);
	if (strlen(hello->token) > TOKEN_MAX_BYTES || strlen(hello->name) > NAME_MAX_BYTES)
		return error_set(err, STATUS_INVALID_ARGUMENT, "hello: token or name is too long");
	if (hello->token[0] == '\0')
		return error_set(
			err, STATUS_UNAUTHENTICATED, "hello: no token: give one with a token file");
	return server->config.authenticate(
		server->config.arg, hello->token, hello->name, &peer->principal, err);
}

static void welcome(struct peer *peer)
{
	struct rpc_server *server = peer->server;
	const struct rpc_limits *limits = &server->config.limits;
	Postern__V1__Welcome message = POSTERN__V1__WELCOME__INIT;
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	uint8_t body[1024];
	message.version = PROTOCOL_VERSION;
	message.server = server->identity;
	message.principal = peer->principal.name;
	message.role = (char *)(uintptr_t)rpc_role_name(peer->principal.role);
	message.max_frame_bytes = (uint32_t)limits->max_frame_bytes;
	message.max_calls = (uint32_t)limits->max_calls;
	message.heartbeat_ms = limits->heartbeat_ms;
	message.idle_timeout_ms = limits->idle_timeout_ms;
	if (postern__v1__welcome__get_packed_size(&message) > sizeof body)
		return;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_WELCOME;
	frame.body.data = body;
	frame.body.len = postern__v1__welcome__pack(&message, body);
	(void)conn_send(peer->conn, &frame);
}

static void handle_hello(struct peer *peer, const Postern__V1__Frame *frame)
{
	struct error err = {0};
	ProtobufCMessage *message;
	if (frame->kind != POSTERN__V1__FRAME_KIND__FRAME_KIND_HELLO) {
		error_set(&err, STATUS_INVALID_ARGUMENT, "the first frame must be a HELLO");
		peer->server->stats.malformed++;
		refuse(peer, &err);
		return;
	}
	message =
		message_unpack(&postern__v1__hello__descriptor, frame->body.data, frame->body.len);
	if (!message) {
		error_set(
			&err, STATUS_INVALID_ARGUMENT, "hello: the body is not a postern.v1.Hello");
		peer->server->stats.malformed++;
		refuse(peer, &err);
		return;
	}
	enum status status = check_hello(peer, (const Postern__V1__Hello *)message, &err);
	message_free(message);
	if (status) {
		refuse(peer, &err);
		return;
	}
	loop_timer_clear(peer->server->config.loop, &peer->hello);
	peer->authenticated = true;
	peer->server->unauthenticated--;
	peer->conn->max_frame = peer->server->config.limits.max_frame_bytes;
	welcome(peer);
}

/* ---- calls ---- */

static void send_reply(
	struct peer *peer, uint32_t id, const struct error *err, const ProtobufCMessage *reply)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	Postern__V1__ErrorDetail detail = POSTERN__V1__ERROR_DETAIL__INIT;
	struct error oversize;
	uint8_t *body = NULL;
	if (!peer->conn)
		return;
	frame.call = id;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_REPLY;
	if (reply) {
		frame.body.len = protobuf_c_message_get_packed_size(reply);
		body = malloc(frame.body.len ? frame.body.len : 1);
		if (!body || frame.body.len > peer->server->config.limits.max_frame_bytes - 64) {
			error_set(&oversize, STATUS_RESOURCE_EXHAUSTED,
				"the reply is larger than a frame: ask for less at once");
			err = &oversize;
			frame.body.len = 0;
		} else {
			frame.body.data = body;
			protobuf_c_message_pack(reply, body);
		}
	}
	if (err) {
		frame.status = (uint32_t)err->status;
		frame.message = (char *)(uintptr_t)err->text;
		detail.reason = (Postern__V1__ErrorReason)err->reason;
		detail.rule = (char *)(uintptr_t)err->rule;
		detail.grant = (char *)(uintptr_t)err->grant;
		detail.field = (char *)(uintptr_t)err->field;
		frame.detail = &detail;
	}
	(void)conn_send(peer->conn, &frame);
	free(body);
}

static void call_finish(
	struct rpc_call *call, const struct error *err, const ProtobufCMessage *reply)
{
	struct peer *peer = call->peer;
	struct rpc_server *server = peer->server;
	loop_timer_clear(server->config.loop, &call->deadline);
	if (call->in_table)
		table_remove(&peer->calls, &call->node);
	send_reply(peer, call->id, err, reply);
	peer->call_count--;
	server->stats.calls--;
	free(call);
	peer_release(peer);
}

static void deadline_passed(void *arg)
{
	call_tell(arg, STATUS_DEADLINE_EXCEEDED);
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
		return server->services[i];
	}
	return NULL;
}

static enum status check_call(struct peer *peer, const Postern__V1__Frame *frame,
	ProtobufCService **ret_service, unsigned *ret_index, struct error *err)
{
	struct rpc_server *server = peer->server;
	if (frame->call == 0)
		return error_set(err, STATUS_INVALID_ARGUMENT, "a call's id must not be 0");
	if (table_find(&peer->calls, &frame->call, sizeof frame->call))
		return error_set(err, STATUS_INVALID_ARGUMENT, "call id %u is in use", frame->call);
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

static void handle_call(struct peer *peer, const Postern__V1__Frame *frame)
{
	struct rpc_server *server = peer->server;
	ProtobufCService *service = NULL;
	ProtobufCMessage *input = NULL;
	unsigned index = 0;
	struct error err = {0};
	struct rpc_call *call = NULL;
	if (check_call(peer, frame, &service, &index, &err))
		goto refuse;
	input = message_unpack(
		service->descriptor->methods[index].input, frame->body.data, frame->body.len);
	if (!input) {
		error_set(&err, STATUS_INVALID_ARGUMENT, "%.100s: the body is not a %s",
			frame->method, service->descriptor->methods[index].input->name);
		goto refuse;
	}
	call = calloc(1, sizeof *call);
	if (call) {
		call->id = frame->call;
		call->in_table =
			table_insert(&peer->calls, &call->node, &call->id, sizeof call->id);
	}
	if (!call || !call->in_table) {
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		goto refuse;
	}
	call->peer = peer;
	call->credit = frame->credit;
	call->deadline_us = CLOCK_NEVER;
	if (frame->deadline_ms > 0) {
		call->deadline_us = clock_mono_us() + (int64_t)frame->deadline_ms * 1000;
		loop_timer_set(server->config.loop, &call->deadline, call->deadline_us,
			deadline_passed, call);
	}
	peer->call_count++;
	server->stats.calls++;
	server->stats.calls_total++;
	service->invoke(service, index, input, NULL, call);
	message_free(input);
	return;
refuse:
	message_free(input);
	free(call);
	send_reply(peer, frame->call, &err, NULL);
}

static void handle_credit(struct peer *peer, const Postern__V1__Frame *frame)
{
	struct rpc_call *call = find_call(peer, frame->call);
	if (!call)
		return;
	bool was_empty = call->credit == 0;
	call->credit = frame->credit > UINT32_MAX - call->credit ? UINT32_MAX
								 : call->credit + frame->credit;
	if (was_empty && call->credit > 0 && call->on_credit)
		call->on_credit(call->on_credit_arg);
}

static void on_frame(void *arg, const Postern__V1__Frame *frame)
{
	struct peer *peer = arg;
	struct rpc_call *call;
	struct error err;
	if (!peer->authenticated) {
		handle_hello(peer, frame);
		return;
	}
	switch (frame->kind) {
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CALL:
		handle_call(peer, frame);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CREDIT:
		handle_credit(peer, frame);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CANCEL:
		call = find_call(peer, frame->call);
		if (call)
			call_tell(call, STATUS_CANCELLED);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_GOODBYE:
		error_set(&err, STATUS_OK, "goodbye");
		conn_goodbye(peer->conn, &err);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_UNSPECIFIED:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_HELLO:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_WELCOME:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_REPLY:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_ITEM:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_PING:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_PONG:
	case _POSTERN__V1__FRAME_KIND_IS_INT_SIZE:
		break;
	}
	peer->server->stats.malformed++;
	error_set(&err, STATUS_INVALID_ARGUMENT, "a client must not send a frame of kind %d here",
		(int)frame->kind);
	conn_goodbye(peer->conn, &err);
}

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

enum status rpc_item_packed(struct rpc_call *call, const void *bytes, size_t size)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	if (!call->peer->conn)
		return STATUS_UNAVAILABLE;
	if (call->credit == 0)
		return STATUS_RESOURCE_EXHAUSTED;
	frame.call = call->id;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_ITEM;
	frame.body.len = size;
	frame.body.data = (uint8_t *)(uintptr_t)bytes;
	enum status status = conn_send(call->peer->conn, &frame);
	if (status == STATUS_OK)
		call->credit--;
	return status;
}

enum status rpc_item(struct rpc_call *call, const ProtobufCMessage *item)
{
	size_t size = protobuf_c_message_get_packed_size(item);
	uint8_t *bytes = malloc(size ? size : 1);
	if (!bytes)
		return STATUS_RESOURCE_EXHAUSTED;
	protobuf_c_message_pack(item, bytes);
	enum status status = rpc_item_packed(call, bytes, size);
	free(bytes);
	return status;
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

/* ---- server ---- */

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

enum status rpc_server_new(
	const struct rpc_server_config *config, struct rpc_server **ret_server, struct error *err)
{
	struct rpc_server *server = calloc(1, sizeof *server);
	if (!server)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	server->config = *config;
	server->group.loop = config->loop;
	server->identity = copy(config->identity ? config->identity : "posternd");
	server->cert = copy(config->tls_cert_file);
	server->key = copy(config->tls_key_file);
	server->client_ca = copy(config->tls_client_ca_file);
	server->tls = (struct stream_tls){.cert_file = server->cert,
		.key_file = server->key,
		.client_ca_file = server->client_ca};
	*ret_server = server;
	return STATUS_OK;
}

enum status rpc_server_add(struct rpc_server *server, ProtobufCService *service, struct error *err)
{
	if (server->service_count == SERVICES_MAX)
		return error_set(err, STATUS_INTERNAL, "%s: more than %d services",
			service->descriptor->name, SERVICES_MAX);
	server->services[server->service_count++] = service;
	return STATUS_OK;
}

static bool is_loopback_url(const char *url)
{
	static const char *const hosts[] = {"tcp://127.", "tcp://localhost:", "tcp://[::1]:"};
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
		if (strncmp(url, hosts[i], strlen(hosts[i])) == 0)
			return true;
	return false;
}

enum status rpc_server_listen(struct rpc_server *server, const char *url, struct error *err)
{
	if (strncmp(url, "tcp://", 6) == 0 && !is_loopback_url(url))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: plain tcp is for loopback only, because tokens would cross the "
			"network in clear: use tls+tcp://",
			url);
	if (server->listener_count == LISTENERS_MAX)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: more than %d listeners", url,
			LISTENERS_MAX);
	enum status status = stream_listen(&server->group, url, &server->tls, on_accept, server,
		&server->listeners[server->listener_count], err);
	if (status == STATUS_OK)
		server->listener_count++;
	return status;
}

const char *rpc_server_url(const struct rpc_server *server, size_t i)
{
	return i < server->listener_count ? stream_listener_url(server->listeners[i]) : NULL;
}

enum status rpc_server_reload_tls(struct rpc_server *server, struct error *err)
{
	for (size_t i = 0; i < server->listener_count; i++) {
		enum status status =
			stream_listener_reload(server->listeners[i], &server->tls, err);
		if (status)
			return status;
	}
	return STATUS_OK;
}

void rpc_server_close(struct rpc_server *server)
{
	struct error why;
	if (server->closed)
		return;
	server->closed = true;
	for (size_t i = 0; i < server->listener_count; i++)
		stream_listener_free(server->listeners[i]);
	server->listener_count = 0;
	error_set(&why, STATUS_UNAVAILABLE, "the server is stopping");
	for (struct peer *peer = server->peers, *next; peer; peer = next) {
		next = peer->next;
		peer->call_count++; /* handlers may end the last call in their callbacks */
		tell_all(peer);
		peer->call_count--;
		if (peer->conn)
			conn_goodbye(peer->conn, &why);
	}
}

void rpc_server_free(struct rpc_server *server)
{
	if (!server)
		return;
	rpc_server_close(server);
	/* A last chance for what is on its way out, then whoever is left goes. */
	int64_t until = clock_mono_us() + 200000;
	while (server->peers && clock_mono_us() < until)
		loop_step(server->config.loop, 20);
	while (server->peers)
		peer_gone(server->peers);
	while (server->group.alive > 0)
		loop_step(server->config.loop, 20);
	free(server->identity);
	free(server->cert);
	free(server->key);
	free(server->client_ca);
	free(server);
}

void rpc_server_stats(const struct rpc_server *server, struct rpc_stats *ret_stats)
{
	*ret_stats = server->stats;
	ret_stats->connections = server->peer_count;
	ret_stats->queued_bytes = server->queued_total;
}

void rpc_server_disconnect(struct rpc_server *server, const char *principal, const char *why)
{
	struct error err;
	error_set(&err, STATUS_ABORTED, "%s", why);
	for (struct peer *peer = server->peers, *next; peer; peer = next) {
		next = peer->next;
		if (peer->conn && peer->authenticated &&
			strcmp(peer->principal.name, principal) == 0)
			conn_goodbye(peer->conn, &err);
	}
}
