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
struct conn;

enum conn_end { CONN_CLOSED, CONN_MALFORMED, CONN_IDLE, CONN_SLOW_READER };

/* All connections of one owner: what they hold together is bounded. */
struct conn_group {
	struct conn *conns;
	size_t queued; /* bytes that wait to be sent */
};

struct conn {
	struct loop *loop;
	struct stream *stream; /* NULL once closed */
	const struct rpc_limits *limits;
	struct conn_group *group;
	struct conn *next, *previous;
	size_t max_receive; /* FRAME_HELLO_BYTES until the owner raises it */
	size_t max_send;
	uint32_t heartbeat_ms, idle_ms;
	struct buffer output;
	size_t queued; /* this connection's share of group->queued */
	int64_t received_us, sent_us;
	struct loop_timer tick;
	struct loop_task more, gone;
	unsigned busy; /* depth of our own calls up the stack */
	bool polite; /* malformed frames are answered with GOODBYE: the owner may wait for that */
	bool sending, closed, finishing, freed, more_posted, gone_posted;
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
	struct conn_group *group, void (*on_frame)(void *arg, const Postern__V1__Frame *frame),
	void (*on_closed)(void *arg, enum conn_end end, const struct error *err), void *arg);
/* The peer has shown who it is: frames may be as large as given. */
void conn_trust(struct conn *conn, size_t max_receive, size_t max_send);
void conn_set_beat(struct conn *conn, uint32_t heartbeat_ms, uint32_t idle_ms);
/* Queues one frame, with `body` (may be NULL) packed into it. A frame over the limit is refused
 * (INVALID_ARGUMENT, nothing sent); a queue over its limit closes the connection as a slow
 * reader's. */
enum status conn_send(
	struct conn *conn, const Postern__V1__Frame *frame, const ProtobufCMessage *body);
/* Sends GOODBYE, then waits a moment for the peer to close, so that the words arrive; whatever the
 * peer still sends is discarded. on_closed follows. */
void conn_goodbye(struct conn *conn, const struct error *why);
/* Stops everything at once; nothing is called afterwards. May be called inside on_frame and
 * on_closed. Accepts NULL. */
void conn_free(struct conn *conn);

#endif
