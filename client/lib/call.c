/* One unary call: from the caller's thread to the library thread, through as many tries as it
 * takes, to its callback.
 *
 *   call_start --post--> begin -> try --> in flight --> finish (callback, freed)
 *                                 | ^         |
 *          no connection, no room | |         | lost or busy, and the call repeats
 *                                 v |         v
 *                               waiting    backing off --> try
 *
 * The deadline counts from call_start and covers all tries; each try tells the server what is left
 * of it. A call in flight is timed by the RPC client, a waiting one and one that backs off by its
 * own timer.
 *
 * Repeating is safe because the server answers a request id (of a bundle: its id) that it knows
 * with the grant it gave (I6), a second commit like the first, a second renewal from its own time
 * on, and a second cancellation with ALREADY_ENDED. An UNAVAILABLE with a reason is the server's
 * verdict (gateway down, no journal) and is handed on; one without is the connection's end.
 *
 * If the deadline passes after such an end, the server may hold a grant whose answer was lost.
 * DEADLINE_EXCEEDED promises that nothing stays open, so the library withdraws it (struct
 * call_spec, undo) as soon as there is a connection again. */
#include <stdlib.h>
#include <string.h>

#include "client/lib/internal.h"
#include "common/clock.h"
#include "postern/v1/grants.pb-c.h"
#include "proto/rpc/rpc.h"

/* The pause before the first repetition; doubles. Short, because most ends are seen when the next
 * connection is up. */
#define FIRST_PAUSE_US 10000
#define LONGEST_PAUSE_US 1000000
/* How long a lost grant is looked for; its own lifetime ends it as well. */
#define WITHDRAW_MS 60000

enum call_state { CALL_IDLE, CALL_WAITING, CALL_IN_FLIGHT, CALL_BACKING_OFF };

struct call {
	struct call *next, **link; /* in postern->calls */
	struct call *next_waiting; /* in postern->waiting */
	struct postern *postern;
	struct call_spec spec;
	ProtobufCMessage *request;
	char undo_id[40];
	int64_t deadline_us, pause_us;
	enum call_state state;
	bool was_lost; /* a try ended with the connection: the server may have answered it */
	struct loop_task task;
	struct loop_timer timer;
};

static void try_call(struct call *call);

/* ---- life ---- */

/* Packing and unpacking is the deep copy that protobuf-c lacks. */
static ProtobufCMessage *copy_message(const ProtobufCMessage *message)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = malloc(size + 1);
	ProtobufCMessage *copy;

	if (!bytes)
		return NULL;
	protobuf_c_message_pack(message, bytes);
	copy = protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
	free(bytes);
	return copy;
}

static void free_call(struct call *call)
{
	if (call->request)
		protobuf_c_message_free_unpacked(call->request, NULL);
	free(call);
}

const struct call_spec *call_spec_of(const struct call *call)
{
	return &call->spec;
}

static void link_call(struct call *call)
{
	call->next = call->postern->calls;
	call->link = &call->postern->calls;
	if (call->next)
		call->next->link = &call->next;
	call->postern->calls = call;
}

static void unlink_call(struct call *call)
{
	*call->link = call->next;
	if (call->next)
		call->next->link = call->link;
}

/* ---- waiting for the connection, and for room on it ---- */

static void append_waiting(struct call *call)
{
	call->state = CALL_WAITING;
	call->next_waiting = NULL;
	*call->postern->waiting_end = call;
	call->postern->waiting_end = &call->next_waiting;
}

static void remove_waiting(struct call *call)
{
	struct call **link = &call->postern->waiting;

	while (*link != call)
		link = &(*link)->next_waiting;
	*link = call->next_waiting;
	if (!call->next_waiting)
		call->postern->waiting_end = link;
}

/* The RPC client would hold calls until it is connected as well, but not in order. */
static bool can_send(const struct postern *postern)
{
	return !postern->ending && postern->in_flight < postern->max_in_flight &&
		rpc_client_is_ready(postern->client);
}

void calls_resume(struct postern *postern)
{
	struct call *call;

	while (postern->waiting && can_send(postern)) {
		call = postern->waiting;
		remove_waiting(call);
		loop_timer_clear(postern->loop, &call->timer);
		call->state = CALL_IDLE;
		try_call(call);
	}
}

/* ---- the end ---- */

static void ignore_done(
	const struct call *call, const ProtobufCMessage *reply, const struct error *err)
{
	(void)call, (void)reply, (void)err;
}

static void send_withdrawal(
	struct postern *postern, const char *method, const ProtobufCMessage *request)
{
	struct call_spec spec = {
		.service = &postern__v1__grants__descriptor,
		.method = method,
		.request = request,
		.deadline_ms = WITHDRAW_MS,
		.repeats = true,
		.done = ignore_done,
	};

	call_start(postern, &spec, NULL);
}

static void withdraw(struct call *lost)
{
	Postern__V1__GrantCancelRequest grant = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	Postern__V1__BundleCancelRequest bundle = POSTERN__V1__BUNDLE_CANCEL_REQUEST__INIT;

	switch (lost->spec.undo) {
	case UNDO_NOTHING:
		return;
	case UNDO_REQUEST:
		grant.request_id = lost->undo_id;
		send_withdrawal(lost->postern, "Cancel", &grant.base);
		return;
	case UNDO_GRANT:
		grant.id = lost->undo_id;
		send_withdrawal(lost->postern, "Cancel", &grant.base);
		return;
	case UNDO_BUNDLE:
		bundle.bundle = lost->undo_id;
		send_withdrawal(lost->postern, "CancelBundle", &bundle.base);
		return;
	}
}

static void finish(struct call *call, const ProtobufCMessage *reply, const struct error *err)
{
	struct postern *postern = call->postern;

	if (call->state == CALL_WAITING)
		remove_waiting(call);
	loop_timer_clear(postern->loop, &call->timer);
	unlink_call(call);
	if (call->was_lost && err->status == STATUS_DEADLINE_EXCEEDED)
		withdraw(call);
	call->spec.done(call, reply, err);
	free_call(call);
}

static void finish_late(void *arg)
{
	struct call *call = arg;
	struct error err;

	error_reason(&err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
		"%s: no answer from the server before the deadline", call->spec.method);
	finish(call, NULL, &err);
}

void calls_end(struct postern *postern)
{
	struct error err;

	error_set(&err, STATUS_CANCELLED, "the connection was closed");
	while (postern->calls)
		finish(postern->calls, NULL, &err);
}

/* ---- tries ---- */

static void try_again(void *arg)
{
	struct call *call = arg;

	call->state = CALL_IDLE;
	try_call(call);
}

/* Another decision about the grant is just on its way to the disk. */
static bool is_busy(const struct error *err)
{
	return err->status == STATUS_ABORTED;
}

static bool is_lost(const struct error *err)
{
	return err->status == STATUS_UNAVAILABLE && err->reason == REASON_NONE;
}

static void back_off(struct call *call)
{
	int64_t due_us = clock_mono_us() + call->pause_us;

	if (due_us >= call->deadline_us)
		due_us = call->deadline_us;
	call->state = CALL_BACKING_OFF;
	call->pause_us =
		call->pause_us * 2 < LONGEST_PAUSE_US ? call->pause_us * 2 : LONGEST_PAUSE_US;
	loop_timer_set(call->postern->loop, &call->timer, due_us, try_again, call);
}

static void on_done(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct call *call = arg;
	struct postern *postern = call->postern;

	postern->in_flight--;
	call->state = CALL_IDLE;
	if ((is_lost(err) || is_busy(err)) && call->spec.repeats && !postern->ending) {
		call->was_lost = call->was_lost || is_lost(err);
		back_off(call);
	} else {
		finish(call, reply, err);
	}
	calls_resume(postern);
}

static void try_call(struct call *call)
{
	struct postern *postern = call->postern;
	int64_t left_us = call->deadline_us - clock_mono_us();
	struct rpc_call_options options = {0};
	struct error err;

	if (left_us <= 0) {
		finish_late(call);
		return;
	}
	if (!can_send(postern)) {
		append_waiting(call);
		loop_timer_set(postern->loop, &call->timer, call->deadline_us, finish_late, call);
		return;
	}
	options.deadline_ms = (uint32_t)((left_us + 999) / 1000);
	if (rpc_client_call(postern->client, call->spec.service, call->spec.method, call->request,
		    &options, on_done, call, NULL, &err) != STATUS_OK) {
		finish(call, NULL, &err);
		return;
	}
	call->state = CALL_IN_FLIGHT;
	postern->in_flight++;
}

static void begin(void *arg)
{
	struct call *call = arg;

	link_call(call);
	try_call(call);
}

enum status call_start(struct postern *postern, const struct call_spec *spec, struct error *err)
{
	struct call *call = calloc(1, sizeof(*call));
	uint32_t deadline_ms = spec->deadline_ms ? spec->deadline_ms : DEFAULT_DEADLINE_MS;
	enum status status;

	if (!call)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	call->postern = postern;
	call->spec = *spec;
	call->spec.request = NULL; /* the caller's */
	call->spec.undo_id = NULL; /* the caller's too */
	if (spec->undo != UNDO_NOTHING)
		memcpy(call->undo_id, spec->undo_id, strlen(spec->undo_id) + 1);
	call->pause_us = FIRST_PAUSE_US;
	call->deadline_us = clock_mono_us() + (int64_t)deadline_ms * 1000;
	call->request = copy_message(spec->request);
	status = call->request ? postern_post(postern, &call->task, begin, call, err)
			       : error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	if (status != STATUS_OK)
		free_call(call);
	return status;
}
