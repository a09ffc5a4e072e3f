/* The RPC runtime of DESIGN.md section 5 on nng byte streams: frames, calls, streams with credit,
 * heartbeats, limits.
 *
 * Threads: every function is called on the loop's thread and every callback runs there. nng's own
 * threads only post to the loop. Nothing here blocks, except rpc_*_free, which waits for nng
 * callbacks that are already running and runs the loop meanwhile: not inside a callback of the
 * runtime.
 *
 * Ownership: a call (server side) belongs to the runtime but stays valid until its handler ends it,
 * exactly once, by rpc_reply() or rpc_fail(); that holds even when the peer is gone, its deadline
 * has passed or it cancelled: then the on_end callback tells the handler, and the handler's
 * rpc_fail() merely releases the call.
 *
 * nng's headers are included by proto/rpc/stream.c alone. */
#ifndef POSTERN_PROTO_RPC_H
#define POSTERN_PROTO_RPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct loop;
struct rpc_server;
struct rpc_call;
struct rpc_client;

enum rpc_role {
	RPC_ROLE_ADMIN = 1,
	RPC_ROLE_AUDITOR = 2,
	RPC_ROLE_FILTER = 3,
	RPC_ROLE_AGENT = 4
}; /* never renumber */
const char *rpc_role_name(enum rpc_role role);
bool rpc_role_parse(const char *text, enum rpc_role *ret_role);

/* Who a token says its bearer is. */
struct rpc_principal {
	enum rpc_role role;
	char name[64];
	char gateway[64]; /* RPC_ROLE_AGENT: its gateway */
};

struct rpc_limits {
	size_t max_frame_bytes; /* 1 MiB; 4 KiB before hello */
	size_t max_connections; /* 8192 in all */
	size_t max_unauthenticated; /* 1024 connections that have not said hello; TLS handshakes
				       included */
	size_t max_calls; /* 1024 in flight per connection */
	size_t max_queued_bytes; /* 4 MiB waiting to be sent, per connection: past it the connection
				    is closed */
	size_t max_queued_bytes_total; /* 256 MiB over all */
	uint32_t hello_timeout_ms; /* 5000: TLS handshake and hello together */
	uint32_t heartbeat_ms; /* 10000 */
	uint32_t idle_timeout_ms; /* 30000 without a frame: closed */
};
extern const struct rpc_limits rpc_default_limits;

/* Counters a person can read; all monotonic but `connections`, `calls` and `queued_bytes`. */
struct rpc_stats {
	uint64_t connections, accepted, closed, refused, malformed, hello_timeouts, idle_timeouts,
		slow_readers;
	uint64_t calls, calls_total, queued_bytes;
};

/* ---- server ---- */

struct rpc_server_config {
	struct loop *loop;
	struct rpc_limits limits;
	const char *identity; /* "posternd 0.1.0" */
	const char *tls_cert_file, *tls_key_file; /* PEM; needed to listen on tls+tcp:// */
	const char *tls_client_ca_file; /* NULL = clients need no certificate */
	void *arg;
	/* Maps a token to its principal. Must not block: the server keeps hashes in memory. */
	enum status (*authenticate)(void *arg, const char *token, const char *name,
		struct rpc_principal *ret_principal, struct error *err);
	/* May this principal call this method ("postern.v1.Grants/Request")? */
	enum status (*authorise)(void *arg, const struct rpc_principal *principal,
		const char *method, struct error *err);
};

enum status rpc_server_new(
	const struct rpc_server_config *config, struct rpc_server **ret_server, struct error *err);
/* `service` is a generated Postern__V1__X_Service whose handlers have the generated signature;
 * closure_data is the struct rpc_call * and `closure` is NULL: handlers answer with
 * rpc_reply/rpc_fail. The input is valid until the handler returns. */
enum status rpc_server_add(struct rpc_server *server, ProtobufCService *service, struct error *err);
/* ipc:///path (socket mode 0600), tls+tcp://HOST:PORT, or tcp:// to loopback only. Port 0 picks a
 * free one. Hosts "*" and "[::]" stand for every address, IPv4 and IPv6; to name 0.0.0.0 with the
 * same port as well does no harm. */
enum status rpc_server_listen(struct rpc_server *server, const char *url, struct error *err);
/* The bound URL of the i-th listener (real port filled in), NULL past the end. */
const char *rpc_server_url(const struct rpc_server *server, size_t i);
/* Reads certificate and key again for new connections; on failure the old ones stay. */
enum status rpc_server_reload_tls(struct rpc_server *server, struct error *err);
/* No new connections or calls; peers get GOODBYE; every live call's on_end is called. Idempotent.
 */
void rpc_server_close(struct rpc_server *server);
/* Waits for nng callbacks. Every call must have been ended by its handler. Accepts NULL. */
void rpc_server_free(struct rpc_server *server);
void rpc_server_stats(const struct rpc_server *server, struct rpc_stats *ret_stats);
/* Closes every connection of a principal (a revoked token, a second agent for the same gateway). */
void rpc_server_disconnect(struct rpc_server *server, const char *principal, const char *why);

const struct rpc_principal *rpc_call_principal(const struct rpc_call *call);
/* Identifies the connection: equal for all calls of one connection, never reused. */
uint64_t rpc_call_connection(const struct rpc_call *call);
/* clock_mono_us() when the caller stops waiting; CLOCK_NEVER if it gave no deadline. The runtime
 * ends nothing by itself at the deadline: it calls on_end with DEADLINE_EXCEEDED, and the handler
 * then fails the call. */
int64_t rpc_call_deadline(const struct rpc_call *call);

/* Ends the connection that the call came over and tells the peer why. Its calls end later, as with
 * any lost connection. */
void rpc_call_disconnect(struct rpc_call *call, const struct error *why);

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *reply);
void rpc_fail(
	struct rpc_call *call, const struct error *err); /* err->status must not be STATUS_OK */
/* Ends with STATUS_OK and no body: the normal end of a stream. */
void rpc_end(struct rpc_call *call);

/* One item of a stream; costs one credit. RESOURCE_EXHAUSTED: no credit; INVALID_ARGUMENT: larger
 * than a frame; UNAVAILABLE: the connection is gone. Nothing was sent then. */
enum status rpc_item(struct rpc_call *call, const ProtobufCMessage *item);
/* The same for an item that is already packed. */
enum status rpc_item_packed(struct rpc_call *call, const void *bytes, size_t size);
uint32_t rpc_credit(const struct rpc_call *call);
/* Called when credit arrives after rpc_credit() was 0. */
void rpc_on_credit(struct rpc_call *call, void (*cb)(void *arg), void *arg);
/* Called at most once, when the answer is no longer wanted: CANCELLED (caller), DEADLINE_EXCEEDED,
 * or UNAVAILABLE (connection gone, server closing). The handler must still end the call, inside the
 * callback or later. */
void rpc_on_end(struct rpc_call *call, void (*cb)(void *arg, enum status why), void *arg);

/* ---- client ---- */

enum rpc_client_state { RPC_CLIENT_CONNECTING = 1, RPC_CLIENT_READY = 2, RPC_CLIENT_CLOSED = 3 };

struct rpc_welcome {
	char server[64], principal[64], role[16];
	uint32_t max_calls, max_frame_bytes;
};

struct rpc_client_config {
	struct loop *loop;
	struct rpc_limits limits;
	const char *url; /* ipc://, tls+tcp://, tcp:// */
	const char *token; /* copied; wiped on free */
	const char *name; /* "postern-agent 0.1.0" */
	const char *ca_file; /* PEM; required for tls+tcp:// */
	const char *server_name; /* NULL = host of the URL; the certificate must name it */
	const char *cert_file, *key_file; /* PEM; for a server that asks for them, or NULL */
	bool reconnect; /* with full jitter, 100 ms doubling to 15 s; false: one try */
	void *arg;
	/* READY with `welcome`; CONNECTING (connection lost or try failed, `err` says why, another
	 * try follows) or CLOSED (the same when reconnect is false) without. UNAUTHENTICATED is
	 * retried too, at the slowest pace. Not called for rpc_client_close(). */
	void (*on_state)(void *arg, enum rpc_client_state state, const struct rpc_welcome *welcome,
		const struct error *err);
};

enum status rpc_client_new(
	const struct rpc_client_config *config, struct rpc_client **ret_client, struct error *err);
void rpc_client_start(struct rpc_client *client); /* begins to connect */
/* Every call in flight ends with CANCELLED before this returns. Idempotent. */
void rpc_client_close(struct rpc_client *client);
void rpc_client_free(struct rpc_client *client); /* closes; accepts NULL */
bool rpc_client_is_ready(const struct rpc_client *client);

/* Called exactly once per call that rpc_client_call accepted, never inside rpc_client_call. `reply`
 * (NULL on failure, or at the end of a stream) and `err` (never NULL) are valid during the
 * callback. */
typedef void (*rpc_done_cb)(void *arg, const ProtobufCMessage *reply, const struct error *err);
typedef void (*rpc_item_cb)(void *arg, const ProtobufCMessage *item);

struct rpc_call_options {
	uint32_t deadline_ms; /* 0 = none; enforced on this side too (plus a little for the answer's
				 way) */
	bool wait_for_ready; /* not connected: wait until the deadline instead of failing with
				UNAVAILABLE */
	rpc_item_cb on_item; /* streams */
	uint32_t credit; /* streams: window of items, topped up by the runtime after on_item
			    returns; 0 = 16 */
};

/* `service` is the generated descriptor (postern__v1__grants__descriptor), `method` its method's
 * name ("Request"). ret_call may be NULL. */
enum status rpc_client_call(struct rpc_client *client, const ProtobufCServiceDescriptor *service,
	const char *method, const ProtobufCMessage *request, const struct rpc_call_options *options,
	rpc_done_cb done, void *arg, uint64_t *ret_call, struct error *err);
/* done is called later, with CANCELLED or with the answer that was already on its way. Unknown ids
 * are ignored. */
void rpc_client_cancel(struct rpc_client *client, uint64_t call);

#endif
