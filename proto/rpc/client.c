/* Design.
 *
 *   start -> CONNECTING -> (dial, hello, welcome) -> READY -> (lost) -> CONNECTING ... -> CLOSED
 *
 * One timer drives the link: the next try while nothing is connected, the handshake's deadline
 * while one is. Tries are spaced with full jitter over a doubling span (100 ms to 15 s), so that a
 * fleet whose server restarted does not come back as one herd; the span begins anew only after a
 * connection that lasted, so that two agents with one token do not chase each other; a refused
 * token is tried again at the slowest pace, because the administrator may mend it.
 *
 * lost() is the one end of a connection, whatever ended it. Calls are client_call.c's. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/rpc/client.h"
#include "proto/rpc/frame.h"
#include "proto/rpc/url.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MOST_MS 15000
#define LASTING_US 5000000
#define BEAT_LEAST_MS 20
#define IDLE_MOST_MS 3600000
#define PROTOCOL_VERSION 1

static void connect_now(void *arg);
static void lost(struct rpc_client *client, const struct error *why);

static void tell(struct rpc_client *client, enum rpc_client_state state, const struct error *err)
{
	client->state = state;
	if (client->config.on_state)
		client->config.on_state(client->config.arg, state,
			state == RPC_CLIENT_READY ? &client->welcome : NULL, err);
}

/* The server must hear us as often as it wants, and we must not give up before it beats. */
static void adopt_beat(struct rpc_client *client, const Postern__V1__Welcome *welcome)
{
	const struct rpc_limits *limits = &client->config.limits;
	uint32_t beat = limits->heartbeat_ms, idle = limits->idle_timeout_ms;
	if (welcome->heartbeat_ms > 0 && welcome->heartbeat_ms < beat)
		beat = welcome->heartbeat_ms < BEAT_LEAST_MS ? BEAT_LEAST_MS
							     : welcome->heartbeat_ms;
	if (welcome->heartbeat_ms > idle / 2)
		idle = welcome->heartbeat_ms < IDLE_MOST_MS / 2 ? welcome->heartbeat_ms * 2
								: IDLE_MOST_MS;
	conn_set_beat(client->conn, beat, idle);
}

static enum status read_welcome(
	struct rpc_client *client, const Postern__V1__Frame *frame, struct error *err)
{
	Postern__V1__Welcome *message = (Postern__V1__Welcome *)message_unpack(
		&postern__v1__welcome__descriptor, frame->body.data, frame->body.len);
	struct rpc_welcome *welcome = &client->welcome;
	if (!message || message->version != PROTOCOL_VERSION) {
		message_free((ProtobufCMessage *)message);
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: the server speaks another version of the protocol: use a client of "
			"its release",
			client->url);
	}
	snprintf(welcome->server, sizeof welcome->server, "%s", message->server);
	snprintf(welcome->principal, sizeof welcome->principal, "%s", message->principal);
	snprintf(welcome->role, sizeof welcome->role, "%s", message->role);
	welcome->max_calls = message->max_calls;
	welcome->max_frame_bytes = message->max_frame_bytes;
	size_t most = client->config.limits.max_frame_bytes;
	conn_trust(client->conn, most,
		welcome->max_frame_bytes > 0 && welcome->max_frame_bytes < most
			? welcome->max_frame_bytes
			: most);
	adopt_beat(client, message);
	message_free(&message->base);
	return STATUS_OK;
}

static void handle_welcome(struct rpc_client *client, const Postern__V1__Frame *frame)
{
	struct error err = {0};
	if (read_welcome(client, frame, &err)) {
		lost(client, &err);
		return;
	}
	loop_timer_clear(client->config.loop, &client->link);
	client->ready_us = clock_mono_us();
	tell(client, RPC_CLIENT_READY, &err);
	client_calls_send(client);
}

static void handle_goodbye(struct rpc_client *client, const Postern__V1__Frame *frame)
{
	struct error err;
	enum status status = STATUS_UNAVAILABLE;
	if (frame->status > 0 && frame->status <= STATUS_UNAUTHENTICATED)
		status = (enum status)frame->status;
	error_set(&err, status, "%.100s: %.200s", client->url,
		frame->message[0] ? frame->message : "the server said goodbye");
	lost(client, &err);
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
		client_reply(client, frame);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_ITEM:
		client_item(client, frame);
		return;
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_GOODBYE:
		handle_goodbye(client, frame);
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

static void disconnect(struct rpc_client *client)
{
	conn_free(client->conn);
	client->conn = NULL;
	stream_dialer_free(client->dialer);
	client->dialer = NULL;
	loop_timer_clear(client->config.loop, &client->link);
}

static void try_later(struct rpc_client *client, enum status why)
{
	if (client->state == RPC_CLIENT_READY && clock_mono_us() - client->ready_us > LASTING_US)
		client->span_ms = BACKOFF_FIRST_MS;
	if (why == STATUS_UNAUTHENTICATED)
		client->span_ms = BACKOFF_MOST_MS;
	uint32_t wait = 1 + randombytes_uniform(client->span_ms);
	loop_timer_set(client->config.loop, &client->link, clock_mono_us() + (int64_t)wait * 1000,
		connect_now, client);
	client->span_ms =
		client->span_ms > BACKOFF_MOST_MS / 2 ? BACKOFF_MOST_MS : client->span_ms * 2;
}

static void lost(struct rpc_client *client, const struct error *why)
{
	const struct error err = *why; /* may lie in the connection */
	enum rpc_client_state next =
		client->config.reconnect ? RPC_CLIENT_CONNECTING : RPC_CLIENT_CLOSED;
	disconnect(client);
	if (client->state == RPC_CLIENT_CLOSED)
		return;
	if (client->config.reconnect)
		try_later(client, err.status);
	client->state = next;
	client_calls_lost(client, &err);
	if (next == RPC_CLIENT_CLOSED)
		client_calls_end(client, &err);
	if (client->state == next)
		tell(client, next, &err);
}

static void on_closed(void *arg, enum conn_end end, const struct error *err)
{
	struct rpc_client *client = arg;
	struct error why;
	bool is_early = end == CONN_CLOSED && client->state == RPC_CLIENT_CONNECTING;
	if (is_early && !url_is_tls(client->url))
		error_set(&why, STATUS_UNAVAILABLE,
			"%.100s: the connection was closed before the server's welcome: does a "
			"Postern server listen there, and without TLS?",
			client->url);
	else
		error_set(&why, err->status, "%.100s: %s%.200s", client->url,
			is_early ? "before the server's welcome: " : "", err->text);
	lost(client, &why);
}

static void handshake_late(void *arg)
{
	struct rpc_client *client = arg;
	struct error err;
	error_set(&err, STATUS_UNAVAILABLE,
		client->conn ? "%s: no answer to the hello within %u ms: is it a Postern server?"
			     : "%s: no connection within %u ms: is the host up, or does a firewall "
			       "drop this port?",
		client->url, client->config.limits.hello_timeout_ms);
	lost(client, &err);
}

static void send_hello(struct rpc_client *client)
{
	Postern__V1__Hello message = POSTERN__V1__HELLO__INIT;
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	uint32_t version = PROTOCOL_VERSION;
	message.n_versions = 1;
	message.versions = &version;
	message.token = client->token;
	message.name = client->name;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_HELLO;
	(void)conn_send(client->conn, &frame, &message.base);
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
	client->conn = conn_new(client->config.loop, stream, &client->config.limits, &client->conns,
		on_frame, on_closed, client);
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
	if (stream_dial(&client->streams, client->url, &client->tls, dialed, client,
		    &client->dialer, &err))
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
	enum status status = url_check(config->url, err);
	if (status)
		return status;
	if (url_is_tls(config->url) && !config->ca_file)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: TLS needs the server's CA: set ca_file (POSTERN_CA_FILE) to its "
			"ca.pem",
			config->url);
	struct rpc_client *client = calloc(1, sizeof *client);
	if (!client)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	client->config = *config;
	client->streams.loop = config->loop;
	client->url = copy(config->url);
	client->token = copy(config->token);
	client->name = copy(config->name ? config->name : "");
	client->ca_file = copy(config->ca_file);
	client->server_name = copy(config->server_name);
	client->cert_file = copy(config->cert_file);
	client->key_file = copy(config->key_file);
	client->tls = (struct stream_tls){.ca_file = client->ca_file,
		.server_name = client->server_name,
		.cert_file = client->cert_file,
		.key_file = client->key_file};
	client->state = RPC_CLIENT_CONNECTING;
	client->span_ms = BACKOFF_FIRST_MS;
	client_calls_init(client);
	if (!client->url || !client->token || !client->name ||
		!client->ca_file != !config->ca_file ||
		!client->server_name != !config->server_name ||
		!client->cert_file != !config->cert_file ||
		!client->key_file != !config->key_file) {
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
	struct error err = {0};
	client->state = RPC_CLIENT_CLOSED;
	error_set(&err, STATUS_CANCELLED, "the connection was closed by this program");
	client_calls_end(client, &err);
	disconnect(client);
}

void rpc_client_free(struct rpc_client *client)
{
	if (!client)
		return;
	rpc_client_close(client);
	while (client->streams.alive > 0)
		loop_step(client->config.loop, 20);
	table_fini(&client->calls);
	if (client->token)
		sodium_memzero(client->token, strlen(client->token));
	free(client->url);
	free(client->token);
	free(client->name);
	free(client->ca_file);
	free(client->server_name);
	free(client->cert_file);
	free(client->key_file);
	free(client);
}

bool rpc_client_is_ready(const struct rpc_client *client)
{
	return client->state == RPC_CLIENT_READY;
}
