/* What client.c (the link) and client_call.c (calls) share of an RPC client. */
#ifndef POSTERN_PROTO_RPC_CLIENT_H
#define POSTERN_PROTO_RPC_CLIENT_H

#include "common/loop.h"
#include "common/table.h"
#include "proto/rpc/conn.h"
#include "proto/rpc/rpc.h"
#include "proto/rpc/stream.h"

struct rpc_client {
	struct rpc_client_config config;
	struct stream_group streams;
	struct stream_tls tls;
	char *url, *token, *name, *ca_file, *server_name, *cert_file, *key_file;
	struct stream_dialer *dialer;
	struct conn *conn;
	struct loop_timer link;
	struct rpc_welcome welcome;
	enum rpc_client_state state;
	uint32_t span_ms;
	int64_t ready_us;
	struct table calls;
	uint32_t next_call;
	struct conn_group conns;
};

void client_calls_init(struct rpc_client *client);
/* Frames REPLY and ITEM. Callbacks run: the client may be closed afterwards. */
void client_reply(struct rpc_client *client, const Postern__V1__Frame *frame);
void client_item(struct rpc_client *client, const Postern__V1__Frame *frame);
/* The link is ready: calls that waited for it are sent. */
void client_calls_send(struct rpc_client *client);
/* The link is lost: calls that were sent end with UNAVAILABLE and the reason in words. */
void client_calls_lost(struct rpc_client *client, const struct error *why);
/* Every call ends with `err`; the server is told. */
void client_calls_end(struct rpc_client *client, const struct error *err);

#endif
