/* What server.c (listeners, peers, hello) and call.c (calls of peers) share of an RPC server. */
#ifndef POSTERN_PROTO_RPC_SERVER_H
#define POSTERN_PROTO_RPC_SERVER_H

#include <sys/queue.h>

#include "common/loop.h"
#include "common/table.h"
#include "proto/rpc/conn.h"
#include "proto/rpc/rpc.h"
#include "proto/rpc/stream.h"

#define SERVICES_MAX 16
#define LISTENERS_MAX 16

TAILQ_HEAD(peer_list, peer);

struct peer {
	struct rpc_server *server;
	struct conn *conn; /* NULL when gone */
	struct rpc_principal principal;
	uint64_t id;
	bool authenticated;
	struct table calls; /* that somebody waits for */
	size_t call_count; /* not yet ended by their handlers, also when nobody waits any more */
	struct loop_timer hello;
	TAILQ_ENTRY(peer) link;
};

struct rpc_server {
	struct rpc_server_config config;
	struct stream_group streams;
	struct stream_tls tls;
	char *identity, *cert, *key, *client_ca;
	ProtobufCService *services[SERVICES_MAX];
	size_t service_count;
	struct stream_listener *listeners[LISTENERS_MAX];
	size_t listener_count;
	struct peer_list strangers, known; /* before and after hello; oldest first */
	size_t peer_count, stranger_count;
	uint64_t next_peer;
	struct conn_group conns;
	bool closed;
	struct rpc_stats stats;
};

/* Frees the shell of a peer whose connection is gone and whose last call was ended. */
void peer_release(struct peer *peer);

void calls_init(struct peer *peer);
/* Frames CALL, CREDIT and CANCEL of an authenticated peer. */
void calls_frame(struct peer *peer, const Postern__V1__Frame *frame);
/* Nobody waits for any of this peer's calls: tells their handlers. May release the peer. */
void calls_abandon(struct peer *peer);

#endif
