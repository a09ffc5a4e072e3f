/* Design.
 *
 * Input: frames are taken off the front of the stream's input, at most FRAMES_A_WAKE at a time,
 * then the rest waits for its turn on the loop, so that one busy peer does not starve the others.
 * No more input is asked for while whole frames are unhandled: TCP's window pushes back on a peer
 * that sends faster than we work.
 *
 * Output: frames collect in `output` while a send is under way; then all of them leave in one send.
 * What waits is bounded for each connection; a peer that does not read is closed, because to wait
 * for it would mean to grow for it. When all connections together hold too much, the one that holds
 * most goes, not the one that happens to send.
 *
 * Time: one timer a connection. It is not moved by traffic: when it fires it looks at the time of
 * the last frame and sleeps on, sends a PING, or ends the connection.
 *
 * End: one function, conn_end(), for every failure. It stops the stream at once and tells the owner
 * later, from the loop, so that no owner is called back inside its own call. GOODBYE comes before
 * it where the peer should learn why: closing a socket with unread bytes in it makes the kernel
 * send a reset that can overtake the words, therefore we read on until the peer closes.
 *
 * Memory: the owner frees, at any time, also inside on_frame(). `busy` and the posted tasks say who
 * still has the pointer; the last of them frees. */
#include "proto/rpc/conn.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/rpc/frame.h"
#include "proto/rpc/rpc.h"
#include "proto/rpc/stream.h"

#define FRAMES_A_WAKE 64
#define KEEP_BYTES 65536 /* larger buffers are given back when they are empty */
#define GOODBYE_US 2000000 /* for the words to leave */
#define LINGER_US 500000 /* for the peer to close after them */

static void dispose(struct conn *conn)
{
	if (conn->freed && conn->busy == 0 && !conn->gone_posted && !conn->more_posted)
		free(conn);
}

static void account(struct conn *conn)
{
	size_t now = conn->output.length + (conn->stream ? stream_sending(conn->stream) : 0);
	conn->group->queued = conn->group->queued - conn->queued + now;
	conn->queued = now;
}

static void gone(void *arg)
{
	struct conn *conn = arg;
	conn->gone_posted = false;
	if (conn->freed)
		dispose(conn);
	else
		conn->on_closed(conn->arg, conn->end, &conn->error);
}

static void release(struct conn *conn)
{
	conn->closed = true;
	loop_timer_clear(conn->loop, &conn->tick);
	stream_free(conn->stream);
	conn->stream = NULL;
	buffer_fini(&conn->output);
	account(conn);
	if (conn->previous)
		conn->previous->next = conn->next;
	else
		conn->group->conns = conn->next;
	if (conn->next)
		conn->next->previous = conn->previous;
}

static void conn_end(struct conn *conn, enum conn_end end, const struct error *err)
{
	if (conn->closed)
		return;
	conn->end = end;
	if (err != &conn->error)
		conn->error = *err;
	release(conn);
	conn->gone_posted = true;
	loop_post(conn->loop, &conn->gone, gone, conn);
}

static void fail(struct conn *conn, enum conn_end end, enum status status, const char *text)
{
	struct error err;
	error_set(&err, status, "%s", text);
	conn_end(conn, end, &err);
}

static void goodbye(struct conn *conn, enum conn_end end, const struct error *why);

static void malformed(struct conn *conn, enum status status, const char *text)
{
	struct error err;
	error_set(&err, status, "%s", text);
	if (conn->polite)
		goodbye(conn, CONN_MALFORMED, &err);
	else
		conn_end(conn, CONN_MALFORMED, &err);
}

/* ---- input ---- */

static void handle_frames(struct conn *conn);

static void handle_more(void *arg)
{
	struct conn *conn = arg;
	conn->more_posted = false;
	conn->busy++;
	if (!conn->closed)
		handle_frames(conn);
	conn->busy--;
	dispose(conn);
}

static void control_frame(struct conn *conn, Postern__V1__FrameKind kind)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	frame.kind = kind;
	(void)conn_send(conn, &frame, NULL);
}

static void handle_frame(struct conn *conn, const Postern__V1__Frame *frame)
{
	conn->received_us = clock_mono_us();
	if (frame->kind == POSTERN__V1__FRAME_KIND__FRAME_KIND_PING)
		control_frame(conn, POSTERN__V1__FRAME_KIND__FRAME_KIND_PONG);
	else if (frame->kind != POSTERN__V1__FRAME_KIND__FRAME_KIND_PONG)
		conn->on_frame(conn->arg, frame);
}

static void take_frame(struct conn *conn, bool *ret_incomplete)
{
	Postern__V1__Frame *frame = NULL;
	switch (frame_take(stream_input(conn->stream), conn->max_receive, &frame)) {
	case FRAME_OK:
		handle_frame(conn, frame);
		frame_free(frame);
		break;
	case FRAME_INCOMPLETE:
		*ret_incomplete = true;
		break;
	case FRAME_TOO_LARGE:
		malformed(conn, STATUS_RESOURCE_EXHAUSTED,
			"a frame over the limit came in: send less at once, if this was a Postern "
			"frame at all");
		break;
	case FRAME_MALFORMED:
		malformed(conn, STATUS_INVALID_ARGUMENT,
			"bytes came in that are not a Postern frame: is it the right port, and the "
			"right program?");
		break;
	}
}

static void handle_frames(struct conn *conn)
{
	bool incomplete = false;
	for (int i = 0; i < FRAMES_A_WAKE && !incomplete && !conn->closed; i++) {
		if (conn->finishing) {
			struct buffer *input = stream_input(conn->stream);
			buffer_consume(input, input->length);
			incomplete = true;
		} else {
			take_frame(conn, &incomplete);
		}
	}
	if (conn->closed)
		return;
	if (incomplete) {
		if (stream_input(conn->stream)->capacity > KEEP_BYTES)
			buffer_shrink(stream_input(conn->stream));
		stream_receive(conn->stream);
	} else {
		conn->more_posted = true;
		loop_post(conn->loop, &conn->more, handle_more, conn);
	}
}

static void received(void *arg, const struct error *err)
{
	struct conn *conn = arg;
	conn->busy++;
	if (err->status && conn->finishing)
		conn_end(conn, conn->end, &conn->error);
	else if (err->status)
		conn_end(conn, CONN_CLOSED, err);
	else
		handle_frames(conn);
	conn->busy--;
	dispose(conn);
}

/* ---- output ---- */

static void tick(void *arg);

static void flush(struct conn *conn)
{
	if (conn->sending || conn->output.length == 0)
		return;
	conn->sending = true;
	conn->sent_us = clock_mono_us();
	stream_send(conn->stream, &conn->output);
}

static void sent(void *arg, const struct error *err)
{
	struct conn *conn = arg;
	conn->sending = false;
	if (err->status) {
		conn_end(conn, conn->finishing ? conn->end : CONN_CLOSED,
			conn->finishing ? &conn->error : err);
		return;
	}
	account(conn);
	flush(conn);
	if (!conn->sending && conn->output.capacity > KEEP_BYTES)
		buffer_shrink(&conn->output);
	if (!conn->sending && conn->finishing)
		loop_timer_set(conn->loop, &conn->tick, clock_mono_us() + LINGER_US, tick, conn);
}

/* The largest holders go until what is left fits again. */
static void relieve(struct conn_group *group, size_t most)
{
	while (group->queued > most && group->conns) {
		struct conn *heaviest = group->conns;
		for (struct conn *conn = group->conns; conn; conn = conn->next)
			if (conn->queued > heaviest->queued)
				heaviest = conn;
		fail(heaviest, CONN_SLOW_READER, STATUS_RESOURCE_EXHAUSTED,
			"the peer does not read, and too much waits to be sent to all peers");
	}
}

enum status conn_send(
	struct conn *conn, const Postern__V1__Frame *frame, const ProtobufCMessage *body)
{
	if (conn->closed || conn->finishing)
		return STATUS_UNAVAILABLE;
	enum status status = frame_append(&conn->output, frame, body, conn->max_send);
	if (status == STATUS_INVALID_ARGUMENT)
		return status;
	account(conn);
	if (status || conn->queued > conn->limits->max_queued_bytes) {
		fail(conn, CONN_SLOW_READER, STATUS_RESOURCE_EXHAUSTED,
			"the peer does not read: too much waits to be sent");
		return STATUS_UNAVAILABLE;
	}
	if (conn->group->queued > conn->limits->max_queued_bytes_total) {
		relieve(conn->group, conn->limits->max_queued_bytes_total);
		if (conn->closed)
			return STATUS_UNAVAILABLE;
	}
	flush(conn);
	return STATUS_OK;
}

/* ---- time ---- */

static void tick(void *arg)
{
	struct conn *conn = arg;
	int64_t now = clock_mono_us();
	int64_t idle_due = conn->received_us + (int64_t)conn->idle_ms * 1000;
	int64_t beat_due = conn->sent_us + (int64_t)conn->heartbeat_ms * 1000;
	if (conn->finishing) {
		conn_end(conn, conn->sending ? CONN_SLOW_READER : conn->end, &conn->error);
		return;
	}
	if (now >= idle_due) {
		fail(conn, CONN_IDLE, STATUS_UNAVAILABLE,
			"the other side was silent for longer than the idle limit");
		return;
	}
	if (now >= beat_due) {
		control_frame(conn, POSTERN__V1__FRAME_KIND__FRAME_KIND_PING);
		if (conn->closed)
			return;
		beat_due = now + (int64_t)conn->heartbeat_ms * 1000;
	}
	loop_timer_set(
		conn->loop, &conn->tick, beat_due < idle_due ? beat_due : idle_due, tick, conn);
}

void conn_set_beat(struct conn *conn, uint32_t heartbeat_ms, uint32_t idle_ms)
{
	uint32_t first = heartbeat_ms < idle_ms ? heartbeat_ms : idle_ms;
	conn->heartbeat_ms = heartbeat_ms;
	conn->idle_ms = idle_ms;
	if (!conn->closed && !conn->finishing)
		loop_timer_set(conn->loop, &conn->tick, clock_mono_us() + (int64_t)first * 1000,
			tick, conn);
}

/* ---- life ---- */

struct conn *conn_new(struct loop *loop, struct stream *stream, const struct rpc_limits *limits,
	struct conn_group *group, void (*on_frame)(void *arg, const Postern__V1__Frame *frame),
	void (*on_closed)(void *arg, enum conn_end end, const struct error *err), void *arg)
{
	struct conn *conn = calloc(1, sizeof *conn);
	if (!conn) {
		stream_free(stream);
		return NULL;
	}
	conn->loop = loop;
	conn->stream = stream;
	conn->limits = limits;
	conn->group = group;
	conn->max_receive = FRAME_HELLO_BYTES;
	conn->max_send = limits->max_frame_bytes;
	conn->on_frame = on_frame;
	conn->on_closed = on_closed;
	conn->arg = arg;
	conn->received_us = conn->sent_us = clock_mono_us();
	buffer_init(&conn->output, SIZE_MAX / 2);
	conn->next = group->conns;
	if (conn->next)
		conn->next->previous = conn;
	group->conns = conn;
	conn_set_beat(conn, limits->heartbeat_ms, limits->idle_timeout_ms);
	stream_own(stream, received, sent, conn);
	stream_receive(stream);
	return conn;
}

void conn_trust(struct conn *conn, size_t max_receive, size_t max_send)
{
	conn->max_receive = max_receive;
	conn->max_send = max_send;
}

static void goodbye(struct conn *conn, enum conn_end end, const struct error *why)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	struct error clean = *why;
	if (conn->closed || conn->finishing)
		return;
	frame_clean_text(clean.text);
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_GOODBYE;
	frame.status = (uint32_t)why->status;
	frame.message = clean.text;
	if (conn_send(conn, &frame, NULL))
		return;
	conn->finishing = true;
	conn->end = end;
	conn->error = *why;
	loop_timer_set(conn->loop, &conn->tick, clock_mono_us() + GOODBYE_US, tick, conn);
}

void conn_goodbye(struct conn *conn, const struct error *why)
{
	goodbye(conn, CONN_CLOSED, why);
}

void conn_free(struct conn *conn)
{
	if (!conn)
		return;
	if (!conn->closed)
		release(conn);
	conn->freed = true;
	dispose(conn);
}
