/* Design.
 *
 * A peer is one accepted connection. Until its hello was accepted it is a stranger: it may send one
 * small frame and has hello_timeout_ms for TLS handshake and hello together. Strangers are counted
 * and capped apart from the known, and when there are too many the oldest gives way to the newest:
 * whoever opens connections and says nothing cannot keep others out, because an honest peer needs
 * milliseconds for its hello.
 *
 * peer_gone() is the one teardown of a peer, whatever ended it. Its calls outlive it (call.c). */
#include <protobuf-c/protobuf-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/rpc/frame.h"
#include "proto/rpc/server.h"
#include "proto/rpc/url.h"

#define PROTOCOL_VERSION 1
#define NAME_MAX_BYTES 128
#define TOKEN_MAX_BYTES 256
#define GOODBYE_US 200000 /* what rpc_server_free gives its peers to hear of the end */

/* ---- peers ---- */

void peer_release(struct peer *peer)
{
	if (peer->conn || peer->call_count > 0)
		return;
	table_fini(&peer->calls);
	free(peer);
}

static void peer_gone(struct peer *peer)
{
	struct rpc_server *server = peer->server;
	conn_free(peer->conn);
	peer->conn = NULL;
	loop_timer_clear(server->config.loop, &peer->hello);
	if (peer->authenticated) {
		TAILQ_REMOVE(&server->known, peer, link);
	} else {
		TAILQ_REMOVE(&server->strangers, peer, link);
		server->stranger_count--;
	}
	server->peer_count--;
	server->stats.closed++;
	calls_abandon(peer);
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

static struct peer *peer_new(struct rpc_server *server, struct stream *stream)
{
	const struct rpc_limits *limits = &server->config.limits;
	struct peer *peer = calloc(1, sizeof *peer);
	if (!peer) {
		stream_free(stream);
		return NULL;
	}
	peer->server = server;
	peer->id = ++server->next_peer;
	calls_init(peer);
	peer->conn = conn_new(
		server->config.loop, stream, limits, &server->conns, on_frame, on_closed, peer);
	if (!peer->conn) {
		free(peer);
		return NULL;
	}
	loop_timer_set(server->config.loop, &peer->hello,
		clock_mono_us() + (int64_t)limits->hello_timeout_ms * 1000, hello_late, peer);
	TAILQ_INSERT_TAIL(&server->strangers, peer, link);
	server->stranger_count++;
	server->peer_count++;
	return peer;
}

static void on_accept(void *arg, struct stream *stream)
{
	struct rpc_server *server = arg;
	const struct rpc_limits *limits = &server->config.limits;
	bool is_full = server->peer_count >= limits->max_connections ||
		server->stranger_count >= limits->max_unauthenticated;
	struct peer *oldest = TAILQ_FIRST(&server->strangers);
	server->stats.accepted++;
	if (is_full && oldest && !server->closed) {
		server->stats.refused++;
		peer_gone(oldest);
		is_full = false;
	}
	if (is_full || server->closed) {
		server->stats.refused++;
		stream_free(stream);
	} else if (!peer_new(server, stream)) {
		server->stats.refused++;
	}
}

/* ---- hello ---- */

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

static enum status read_hello(struct peer *peer, const Postern__V1__Frame *frame, struct error *err)
{
	ProtobufCMessage *message = NULL;
	if (frame->kind == POSTERN__V1__FRAME_KIND__FRAME_KIND_HELLO)
		message = message_unpack(
			&postern__v1__hello__descriptor, frame->body.data, frame->body.len);
	if (!message) {
		peer->server->stats.malformed++;
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"the first frame must be a HELLO whose body is a postern.v1.Hello");
	}
	enum status status = check_hello(peer, (const Postern__V1__Hello *)message, err);
	message_free(message);
	return status;
}

static void welcome(struct peer *peer)
{
	const struct rpc_limits *limits = &peer->server->config.limits;
	Postern__V1__Welcome message = POSTERN__V1__WELCOME__INIT;
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	message.version = PROTOCOL_VERSION;
	message.server = peer->server->identity;
	message.principal = peer->principal.name;
	message.role = (char *)(uintptr_t)rpc_role_name(peer->principal.role);
	message.max_frame_bytes = (uint32_t)limits->max_frame_bytes;
	message.max_calls = (uint32_t)limits->max_calls;
	message.heartbeat_ms = limits->heartbeat_ms;
	message.idle_timeout_ms = limits->idle_timeout_ms;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_WELCOME;
	(void)conn_send(peer->conn, &frame, &message.base);
}

static void handle_hello(struct peer *peer, const Postern__V1__Frame *frame)
{
	struct rpc_server *server = peer->server;
	struct error err = {0};
	loop_timer_clear(server->config.loop, &peer->hello);
	if (read_hello(peer, frame, &err)) {
		conn_goodbye(peer->conn, &err);
		return;
	}
	TAILQ_REMOVE(&server->strangers, peer, link);
	TAILQ_INSERT_TAIL(&server->known, peer, link);
	server->stranger_count--;
	peer->authenticated = true;
	conn_trust(peer->conn, server->config.limits.max_frame_bytes,
		server->config.limits.max_frame_bytes);
	peer->conn->polite = true;
	welcome(peer);
}

static void on_frame(void *arg, const Postern__V1__Frame *frame)
{
	struct peer *peer = arg;
	struct error err = {0};
	if (!peer->authenticated) {
		handle_hello(peer, frame);
		return;
	}
	switch (frame->kind) {
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CALL:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CREDIT:
	case POSTERN__V1__FRAME_KIND__FRAME_KIND_CANCEL:
		calls_frame(peer, frame);
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
	TAILQ_INIT(&server->strangers);
	TAILQ_INIT(&server->known);
	server->config = *config;
	server->streams.loop = config->loop;
	server->identity = copy(config->identity ? config->identity : "posternd");
	server->cert = copy(config->tls_cert_file);
	server->key = copy(config->tls_key_file);
	server->client_ca = copy(config->tls_client_ca_file);
	server->tls = (struct stream_tls){.cert_file = server->cert,
		.key_file = server->key,
		.client_ca_file = server->client_ca};
	if (!server->identity || !server->cert != !config->tls_cert_file ||
		!server->key != !config->tls_key_file ||
		!server->client_ca != !config->tls_client_ca_file) {
		rpc_server_free(server);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
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

static bool is_everywhere(const char *url)
{
	return url_has_host(url, "0.0.0.0") || url_has_host(url, "[::]") ||
		url_has_host(url, "*") || url_has_host(url, "");
}

/* "[::]" takes IPv4 as well, therefore 0.0.0.0 with the same port is in its way, and the other way
 * round. Who lists both means every address: the listener on "[::]" stays alone. True: nothing is
 * left to do. */
static bool is_covered(struct rpc_server *server, const char *url)
{
	char v4[URL_SIZE], v6[URL_SIZE];
	const bool is_v4 = url_has_host(url, "0.0.0.0");
	url_rewrite(v4, url, "", "0.0.0.0");
	url_rewrite(v6, url, "", "[::]");
	for (size_t i = 0; i < server->listener_count; i++) {
		const char *other = stream_listener_url(server->listeners[i]);
		if (strcmp(other, v6) == 0)
			return true;
		if (!is_v4 && strcmp(other, v4) == 0) {
			stream_listener_free(server->listeners[i]);
			server->listeners[i] = server->listeners[--server->listener_count];
			return false;
		}
	}
	return false;
}

enum status rpc_server_listen(struct rpc_server *server, const char *url, struct error *err)
{
	enum status status = url_check(url, err);
	if (status)
		return status;
	if (!url_is_ipc(url) && !url_is_tls(url) && !url_is_loopback(url))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: plain tcp is for loopback only, because tokens would cross the "
			"network in clear: use tls+tcp://",
			url);
	if (is_everywhere(url) && is_covered(server, url))
		return STATUS_OK;
	if (server->listener_count == LISTENERS_MAX)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: more than %d listeners", url,
			LISTENERS_MAX);
	status = stream_listen(&server->streams, url, &server->tls, on_accept, server,
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
	struct peer *peer, *next;
	struct error why = {0};
	if (server->closed)
		return;
	server->closed = true;
	for (size_t i = 0; i < server->listener_count; i++)
		stream_listener_free(server->listeners[i]);
	server->listener_count = 0;
	error_set(&why, STATUS_UNAVAILABLE, "the server is stopping");
	while ((peer = TAILQ_FIRST(&server->strangers)) != NULL)
		peer_gone(peer);
	for (peer = TAILQ_FIRST(&server->known); peer; peer = next) {
		next = TAILQ_NEXT(peer, link);
		calls_abandon(peer); /* the peer stays: it has its connection */
		conn_goodbye(peer->conn, &why);
	}
}

void rpc_server_free(struct rpc_server *server)
{
	struct peer *peer;
	if (!server)
		return;
	rpc_server_close(server);
	int64_t until = clock_mono_us() + GOODBYE_US;
	while (!TAILQ_EMPTY(&server->known) && clock_mono_us() < until)
		loop_step(server->config.loop, 20);
	while ((peer = TAILQ_FIRST(&server->known)) != NULL)
		peer_gone(peer);
	while (server->streams.alive > 0)
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
	ret_stats->queued_bytes = server->conns.queued;
}

void rpc_server_disconnect(struct rpc_server *server, const char *principal, const char *why)
{
	struct peer *peer, *next;
	struct error err = {0};
	error_set(&err, STATUS_ABORTED, "%s", why);
	for (peer = TAILQ_FIRST(&server->known); peer; peer = next) {
		next = TAILQ_NEXT(peer, link);
		if (strcmp(peer->principal.name, principal) == 0)
			conn_goodbye(peer->conn, &err);
	}
}
