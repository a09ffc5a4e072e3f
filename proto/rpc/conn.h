/* One connection of either side: frames in and out of a stream, heartbeats, idle limit, bounded
 * output. */
#ifndef POSTERN_PROTO_RPC_CONN_H
#define POSTERN_PROTO_RPC_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/loop.h"
#include "postern/v1/frame.pb-c.h"

struct rpc_limits;
struct stream;

enum conn_end { CONN_CLOSED, CONN_MALFORMED, CONN_IDLE, CONN_SLOW_READER };

struct conn {
	struct loop *loop;
	struct stream *stream;
	const struct rpc_limits *limits;
	size_t *queued_total; /* bytes waiting over all connections of the owner */
	size_t max_frame; /* FRAME_HELLO_BYTES until the owner raises it */
	uint32_t heartbeat_ms, idle_ms;
	struct buffer output;
	size_t queued; /* this connection's share of *queued_total */
	int64_t received_us, sent_us;
	struct loop_timer tick;
	struct loop_task more, gone;
	bool sending, receiving, closed, finishing, freed, more_posted, gone_posted;
	enum conn_end end;
	struct error error;
	/* Never called after conn_free. on_closed comes once, from the loop, when the connection
	 * ended by itself. */
	void (*on_frame)(void *arg, const Postern__V1__Frame *frame);
	void (*on_closed)(void *arg, enum conn_end end, const struct error *err);
	void *arg;
};

/* Takes the stream and begins to receive. NULL: out of memory (the stream is freed). */
struct conn *conn_new(struct loop *loop, struct stream *stream, const struct rpc_limits *limits,
	size_t *queued_total, void (*on_frame)(void *arg, const Postern__V1__Frame *frame),
	void (*on_closed)(void *arg, enum conn_end end, const struct error *err), void *arg);
/* Queues one frame. A frame over the limit is refused (INVALID_ARGUMENT, nothing sent); a queue
 * over its limit closes the connection as a slow reader's. */
enum status conn_send(struct conn *conn, const Postern__V1__Frame *frame);
/* GOODBYE with a status, then closes when it was sent, or after two seconds. */
void conn_goodbye(struct conn *conn, const struct error *why);
/* Stops everything at once; nothing is called afterwards. Accepts NULL. */
void conn_free(struct conn *conn);

#endif
