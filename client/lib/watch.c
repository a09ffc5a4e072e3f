/* postern_watch_*: one stream of journal entries, resumed behind the last event delivered (I8).
 *
 * Ownership. The application holds the watch until postern_watch_stop; the stream holds it as its
 * callbacks' argument until on_done; the task that begins it holds it while queued. Whoever lets go
 * last frees it. All of that happens on the library thread: postern_watch_stop posts and waits,
 * except in a callback, where it is on that thread already and where no other callback can be
 * running.
 *
 * The cursor moves past an event when its callback returned, and past what the server skipped for
 * us with the batch. */
#include <stdlib.h>
#include <string.h>

#include "client/lib/event.h"
#include "client/lib/internal.h"
#include "common/clock.h"
#include "postern/v1/events.pb-c.h"
#include "proto/rpc/rpc.h"

#define FIRST_PAUSE_US 10000
#define LONGEST_PAUSE_US 15000000 /* as slow as the RPC client's own attempts get */
/* A refusal will hardly have changed its mind at once. */
#define REFUSED_PAUSE_US 1000000

struct postern_watch {
	struct postern *postern;
	struct postern_watch *next, **link;
	void (*cb)(void *arg, const struct postern_event *event);
	void *arg;
	uint64_t cursor;
	bool from_now;
	bool begun, stopped, streaming;
	uint64_t stream;
	int64_t pause_us;
	struct loop_timer timer;
	struct loop_task task;
	struct error refusal; /* under postern->lock */
};

static void open_stream(void *arg);

static void free_if_released(struct postern_watch *watch)
{
	if (watch->stopped && watch->begun && !watch->streaming)
		free(watch);
}

static void set_refusal(struct postern_watch *watch, const struct error *err)
{
	pthread_mutex_lock(&watch->postern->lock);
	watch->refusal = *err;
	pthread_mutex_unlock(&watch->postern->lock);
}

/* ---- delivery ---- */

static void on_item(void *arg, const ProtobufCMessage *item)
{
	const Postern__V1__EventBatch *batch = (const Postern__V1__EventBatch *)item;
	struct postern_watch *watch = arg;
	static const struct error fine;

	watch->pause_us = FIRST_PAUSE_US;
	if (watch->refusal.status != STATUS_OK)
		set_refusal(watch, &fine);
	for (size_t i = 0; i < batch->n_entries && !watch->stopped && !watch->postern->ending;
		i++) {
		const Postern__V1__Entry *entry = batch->entries[i];
		struct postern_event event;

		if (entry->sequence <= watch->cursor)
			continue;
		event_read(entry, &event);
		watch->cb(watch->arg, &event);
		watch->cursor = entry->sequence;
		watch->from_now = false;
	}
	if (watch->stopped || watch->postern->ending)
		return;
	if (batch->cursor > watch->cursor)
		watch->cursor = batch->cursor;
	watch->from_now = false;
}

/* ---- the stream ---- */

static void pause_stream(struct postern_watch *watch, const struct error *err)
{
	bool refused = err->status != STATUS_OK && err->status != STATUS_UNAVAILABLE;

	if (refused) {
		set_refusal(watch, err);
		if (watch->pause_us < REFUSED_PAUSE_US)
			watch->pause_us = REFUSED_PAUSE_US;
	}
	loop_timer_set(watch->postern->loop, &watch->timer, clock_mono_us() + watch->pause_us,
		open_stream, watch);
	watch->pause_us =
		watch->pause_us * 2 < LONGEST_PAUSE_US ? watch->pause_us * 2 : LONGEST_PAUSE_US;
}

static void on_done(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct postern_watch *watch = arg;

	(void)reply;
	watch->streaming = false;
	if (watch->stopped)
		free_if_released(watch);
	else if (!watch->postern->ending)
		pause_stream(watch, err);
}

static void open_stream(void *arg)
{
	struct postern_watch *watch = arg;
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	struct rpc_call_options options = {.on_item = on_item};
	struct error err;

	if (!rpc_client_is_ready(watch->postern->client))
		return; /* watches_resume will come */
	request.from_now = watch->from_now;
	request.cursor = watch->cursor;
	watch->streaming =
		rpc_client_call(watch->postern->client, &postern__v1__events__descriptor, "Watch",
			&request.base, &options, on_done, watch, &watch->stream, &err) == STATUS_OK;
	if (!watch->streaming)
		pause_stream(watch, &err);
}

void watches_resume(struct postern *postern)
{
	for (struct postern_watch *watch = postern->watches; watch; watch = watch->next) {
		if (watch->streaming)
			continue;
		loop_timer_clear(postern->loop, &watch->timer);
		open_stream(watch);
	}
}

static void begin(void *arg)
{
	struct postern_watch *watch = arg;
	struct postern *postern = watch->postern;

	watch->begun = true;
	if (watch->stopped) {
		free_if_released(watch);
		return;
	}
	watch->next = postern->watches;
	watch->link = &postern->watches;
	if (watch->next)
		watch->next->link = &watch->next;
	postern->watches = watch;
	open_stream(watch);
}

static void halt(struct postern_watch *watch)
{
	watch->stopped = true;
	if (!watch->begun)
		return;
	*watch->link = watch->next;
	if (watch->next)
		watch->next->link = watch->link;
	loop_timer_clear(watch->postern->loop, &watch->timer);
	if (watch->streaming)
		rpc_client_cancel(watch->postern->client, watch->stream);
	free_if_released(watch);
}

void watches_end(struct postern *postern)
{
	while (postern->watches)
		halt(postern->watches);
}

/* ---- the header's ---- */

/* Accepts the watch unless the connection is being closed. Like postern_post, but *ret_watch is set
 * before the first event, whose callback may want to stop the watch. */
static bool hand_over(struct postern_watch *watch, struct postern_watch **ret_watch)
{
	struct postern *postern = watch->postern;
	bool closing;

	pthread_mutex_lock(&postern->lock);
	closing = postern->closing;
	if (!closing) {
		*ret_watch = watch;
		loop_post(postern->loop, &watch->task, begin, watch);
	}
	pthread_mutex_unlock(&postern->lock);
	return !closing;
}

enum postern_status postern_watch_start(struct postern *postern, uint64_t cursor,
	void (*cb)(void *arg, const struct postern_event *event), void *arg,
	struct postern_watch **ret_watch, struct postern_error *ret_err)
{
	struct postern_watch *watch = calloc(1, sizeof(*watch));
	struct error err = {.status = STATUS_RESOURCE_EXHAUSTED, .text = "out of memory"};

	if (!watch)
		return error_give(&err, ret_err);
	watch->postern = postern;
	watch->cb = cb;
	watch->arg = arg;
	watch->from_now = cursor == POSTERN_FROM_NOW;
	watch->cursor = watch->from_now ? 0 : cursor;
	watch->pause_us = FIRST_PAUSE_US;
	if (!hand_over(watch, ret_watch)) {
		free(watch);
		error_set(&err, STATUS_CANCELLED, "the connection is being closed");
		return error_give(&err, ret_err);
	}
	return POSTERN_OK;
}

struct stopping {
	struct loop_task task;
	struct postern_watch *watch;
	struct waiter waiter;
};

static void stop_now(void *arg)
{
	static const struct postern_error fine;
	struct stopping *stopping = arg;

	halt(stopping->watch);
	waiter_done_grant(&stopping->waiter, NULL, &fine);
}

void postern_watch_stop(struct postern_watch *watch)
{
	struct stopping stopping = {.watch = watch};
	struct error err;

	if (!watch)
		return;
	if (waiter_init(&stopping.waiter, watch->postern, "", NULL) != POSTERN_OK) {
		halt(watch); /* in a callback */
		return;
	}
	waiter_wait(&stopping.waiter,
		(enum postern_status)postern_post(
			watch->postern, &stopping.task, stop_now, &stopping, &err));
}

enum postern_status postern_watch_status(
	const struct postern_watch *watch, struct postern_error *err)
{
	enum postern_status status;

	pthread_mutex_lock(&watch->postern->lock);
	status = (enum postern_status)watch->refusal.status;
	if (status != POSTERN_OK)
		error_give(&watch->refusal, err);
	pthread_mutex_unlock(&watch->postern->lock);
	return status;
}
