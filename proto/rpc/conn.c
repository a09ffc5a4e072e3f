/* Design.
 *
 * Input: the stream receives straight into its input buffer; frames are taken off its front, at
 * most FRAMES_A_WAKE at a time, then the rest waits for its turn on the loop, so that one busy peer
 * does not starve the others. No receive is posted while whole frames are unhandled: TCP's window
 * pushes back on a peer that sends faster than we work.
 *
 * Output: frames collect in `output` while a send is under way; then all of them leave in one send.
 * What waits is bounded for each connection and in all; a peer that does not read is closed,
 * because to wait for it would mean to grow for it.
 *
 * Time: one timer a connection. It is not moved by traffic: when it fires it looks at the time of
 * the last frame and sleeps on, sends a PING, or ends the connection.
 *
 * End: one function, conn_end(), for every failure. It stops the stream at once and tells the owner
 * later, from the loop, so that no owner is called back inside its own call. */
#include "proto/rpc/conn.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/rpc/frame.h"
#include "proto/rpc/rpc.h"
#include "proto/rpc/stream.h"

#define FRAMES_A_WAKE 64
#define RECEIVE_BYTES 4096
#define GOODBYE_US 2000000

static void account(struct conn *conn)
{
	size_t now = conn->output.length + (conn->stream ? stream_sending(conn->stream) : 0);
	*conn->queued_total = *conn->queued_total - conn->queued + now;
	conn->queued = now;
}

static void gone(void *arg)
{
	struct conn *conn = arg;
	conn->gone_posted = false;
	if (conn->freed) {
		if (!conn->more_posted)
			free(conn);
		return;
	}
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
}

static void conn_end(struct conn *conn, enum conn_end end, const struct error *err)
{
	if (conn->closed)
		return;
	release(conn);
	conn->end = end;
	conn->error = *err;
	conn->gone_posted = true;
	loop_post(conn->loop, &conn->gone, gone, conn);
}

static void fail(struct conn *conn, enum conn_end end, enum status status, const char *text)
{
	struct error err;
	error_set(&err, status, "%s", text);
	conn_end(conn, end, &err);
}

static void handle_frames(struct conn *conn);

static void handle_more(void *arg)
{
	struct conn *conn = arg;
	conn->more_posted = false;
	if (conn->freed) {
		if (!conn->gone_posted)
			free(conn);
		return;
	}
	if (!conn->closed)
		handle_frames(conn);
}

static void control_frame(struct conn *conn, Postern__V1__FrameKind kind)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	frame.kind = kind;
	(void)conn_send(conn, &frame);
}

static void handle_frame(struct conn *conn, const Postern__V1__Frame *frame)
{
	conn->received_us = clock_mono_us();
	if (conn->finishing)
		return;
	if (frame->kind == POSTERN__V1__FRAME_KIND__FRAME_KIND_PING)
		control_frame(conn, POSTERN__V1__FRAME_KIND__FRAME_KIND_PONG);
	else if (frame->kind != POSTERN__V1__FRAME_KIND__FRAME_KIND_PONG)
		conn->on_frame(conn->arg, frame);
}

/* True when more input is needed to go on. */
static bool take_frames(struct conn *conn, size_t *ret_need)
{
	for (int i = 0; i < FRAMES_A_WAKE; i++) {
		Postern__V1__Frame *frame = NULL;
		switch (frame_take(stream_input(conn->stream), conn->max_frame, &frame, ret_need)) {
		case FRAME_OK:
			handle_frame(conn, frame);
			frame_free(frame);
			if (conn->closed)
				return false;
			break;
		case FRAME_INCOMPLETE:
			return true;
		case FRAME_TOO_LARGE:
			fail(conn, CONN_MALFORMED, STATUS_RESOURCE_EXHAUSTED,
				"the peer sent a frame over the limit: is it a Postern peer?");
			return false;
		case FRAME_MALFORMED:
			fail(conn, CONN_MALFORMED, STATUS_INVALID_ARGUMENT,
				"the peer sent bytes that are not a frame: is it a Postern peer?");
			return false;
		}
	}
	conn->more_posted = true;
	loop_post(conn->loop, &conn->more, handle_more, conn);
	return false;
}

static void handle_frames(struct conn *conn)
{
	size_t need = 0;
	if (!take_frames(conn, &need))
		return;
	if (stream_input(conn->stream)->length == 0 &&
		stream_input(conn->stream)->capacity > 4 * RECEIVE_BYTES)
		buffer_shrink(stream_input(conn->stream));
	conn->receiving = true;
	if (stream_receive(conn->stream, need > RECEIVE_BYTES ? need : RECEIVE_BYTES))
		fail(conn, CONN_CLOSED, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

static void received(void *arg, const struct error *err)
{
	struct conn *conn = arg;
	conn->receiving = false;
	if (err->status)
		conn_end(conn, CONN_CLOSED, err);
	else
		handle_frames(conn);
}

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
		conn_end(conn, CONN_CLOSED, err);
		return;
	}
	account(conn);
	flush(conn);
	if (conn->finishing && !conn->sending)
		conn_end(conn, CONN_CLOSED, &conn->error);
}

static void tick(void *arg)
{
	struct conn *conn = arg;
	int64_t now = clock_mono_us();
	int64_t idle_due = conn->received_us + (int64_t)conn->idle_ms * 1000;
	int64_t beat_due = conn->sent_us + (int64_t)conn->heartbeat_ms * 1000;
	if (conn->finishing) {
		conn_end(conn, CONN_SLOW_READER, &conn->error);
		return;
	}
	if (now >= idle_due) {
		fail(conn, CONN_IDLE, STATUS_UNAVAILABLE,
			"the peer was silent for longer than the idle limit");
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

struct conn *conn_new(struct loop *loop, struct stream *stream, const struct rpc_limits *limits,
	size_t *queued_total, void (*on_frame)(void *arg, const Postern__V1__Frame *frame),
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
	conn->queued_total = queued_total;
	conn->max_frame = FRAME_HELLO_BYTES;
	conn->heartbeat_ms = limits->heartbeat_ms;
	conn->idle_ms = limits->idle_timeout_ms;
	conn->on_frame = on_frame;
	conn->on_closed = on_closed;
	conn->arg = arg;
	conn->received_us = conn->sent_us = clock_mono_us();
	buffer_init(&conn->output, SIZE_MAX / 2);
	stream_own(stream, received, sent, conn);
	loop_timer_set(
		loop, &conn->tick, conn->sent_us + (int64_t)conn->heartbeat_ms * 1000, tick, conn);
	conn->receiving = true;
	if (stream_receive(stream, RECEIVE_BYTES)) {
		conn_free(conn);
		return NULL;
	}
	return conn;
}

enum status conn_send(struct conn *conn, const Postern__V1__Frame *frame)
{
	if (conn->closed || conn->finishing)
		return STATUS_UNAVAILABLE;
	enum status status = frame_append(&conn->output, frame, conn->limits->max_frame_bytes);
	if (status == STATUS_INVALID_ARGUMENT)
		return status;
	account(conn);
	if (status || conn->queued > conn->limits->max_queued_bytes ||
		*conn->queued_total > conn->limits->max_queued_bytes_total) {
		fail(conn, CONN_SLOW_READER, STATUS_RESOURCE_EXHAUSTED,
			"the peer does not read: too much waits to be sent");
		return STATUS_UNAVAILABLE;
	}
	flush(conn);
	return STATUS_OK;
}

void conn_goodbye(struct conn *conn, const struct error *why)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	if (conn->closed || conn->finishing)
		return;
	frame.kind = POSTERN__V1__FRAME_KIND__FRAME_KIND_GOODBYE;
	frame.status = (uint32_t)why->status;
	frame.message = (char *)(uintptr_t)why->text;
	if (conn_send(conn, &frame))
		return;
	conn->finishing = true;
	conn->error = *why;
	loop_timer_set(conn->loop, &conn->tick, clock_mono_us() + GOODBYE_US, tick, conn);
}

void conn_free(struct conn *conn)
{
	if (!conn)
		return;
	if (!conn->closed)
		release(conn);
	conn->freed = true;
	if (!conn->gone_posted && !conn->more_posted)
		free(conn);
}
