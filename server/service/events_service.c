/* Events.Watch: the journal as it grows.
 *
 * Committed entries go into a ring. A watcher that has seen everything is "live": it costs nothing
 * until an entry for it comes. Watchers are kept by audience: each filter's, which only hear of
 * that filter's grants, and everybody's (admin, auditor). An entry looks up its audience, so that
 * its cost does not depend on how many filters watch.
 *
 * A watcher without credit is no longer live: it stays where it is, at nobody's cost, and when
 * credit comes it is fed from the ring, or, when the ring has moved on, with pages from the
 * database until it has caught up.
 *
 * A cursor passes entries that are not for its watcher; a live watcher that hears nothing for
 * CURSOR_US while the journal grows gets an empty batch, so that it need not search all that again
 * after a lost connection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/service/service.h"

#define RING_ENTRIES 4096
#define BATCH_ENTRIES 128
#define CURSOR_US 10000000

struct watcher {
	struct events *events;
	struct audience *audience;
	struct watcher *next, *previous; /* of the audience */
	struct rpc_call *call;
	struct store_query query; /* what it wants, and the cursor: `after` */
	uint64_t told; /* the cursor that it knows */
	uint64_t read_head; /* the journal's head when the read under way began */
	bool live, reading, over, greeted;
};

struct audience {
	struct table_node node;
	struct audience *next, *previous, *next_touched;
	char filter[RECORD_NAME_SIZE]; /* empty: everybody's */
	struct watcher *watchers;
	uint64_t touched_from; /* the first entry for it since the last round, 0 = none */
};

struct events {
	struct core *core;
	struct entry ring[RING_ENTRIES]; /* of sequence s at s % RING_ENTRIES; owned */
	uint64_t newest, oldest; /* sequences in the ring; newest 0 = empty */
	struct table audiences;
	struct audience *first, *touched;
	struct loop_task round;
	struct loop_timer cursors;
};

/* ---- audiences ---- */

static bool match(const struct table_node *node, const void *key, size_t size)
{
	const char *filter = TABLE_OWNER(node, struct audience, node)->filter;
	return strlen(filter) == size && memcmp(filter, key, size) == 0;
}

static struct audience *audience_find(const struct events *events, const char *filter)
{
	struct table_node *node = table_find(&events->audiences, filter, strlen(filter));
	return node ? TABLE_OWNER(node, struct audience, node) : NULL;
}

static struct audience *audience_of(struct events *events, const char *filter)
{
	struct audience *audience = audience_find(events, filter);
	if (audience)
		return audience;
	audience = calloc(1, sizeof *audience);
	if (!audience)
		return NULL;
	copy_text(audience->filter, sizeof audience->filter, filter);
	if (!table_insert(&events->audiences, &audience->node, filter, strlen(filter))) {
		free(audience);
		return NULL;
	}
	audience->next = events->first;
	if (audience->next)
		audience->next->previous = audience;
	events->first = audience;
	return audience;
}

/* Not while it is touched: the round that follows looks again. */
static void audience_release(struct events *events, struct audience *audience)
{
	if (audience->watchers || audience->touched_from)
		return;
	*(audience->previous ? &audience->previous->next : &events->first) = audience->next;
	if (audience->next)
		audience->next->previous = audience->previous;
	table_remove(&events->audiences, &audience->node);
	free(audience);
}

/* ---- watchers ---- */

static void watcher_link(struct watcher *watcher, struct audience *audience)
{
	watcher->audience = audience;
	watcher->next = audience->watchers;
	if (watcher->next)
		watcher->next->previous = watcher;
	audience->watchers = watcher;
}

static void watcher_end(struct watcher *watcher, const struct error *err)
{
	struct audience *audience = watcher->audience;
	*(watcher->previous ? &watcher->previous->next : &audience->watchers) = watcher->next;
	if (watcher->next)
		watcher->next->previous = watcher->previous;
	audience_release(watcher->events, audience);
	rpc_fail(watcher->call, err);
	free(watcher);
}

static void on_end(void *arg, enum status why)
{
	struct watcher *watcher = arg;
	struct error err;
	watcher->over = true;
	if (watcher->reading)
		return; /* the page's callback ends it */
	error_set(&err, why, "the watch was ended");
	watcher_end(watcher, &err);
}

static bool wants(const struct watcher *watcher, const struct entry *entry)
{
	const struct store_query *query = &watcher->query;
	return (!query->kinds || (query->kinds >> (unsigned)entry->kind & 1)) &&
		(!query->gateway[0] || strcmp(query->gateway, entry->gateway) == 0) &&
		(id_is_zero(&query->grant) || id_equal(&query->grant, &entry->grant)) &&
		(!query->filter[0] || strcmp(query->filter, entry->filter) == 0) &&
		(!query->notify_only || entry->notify);
}

static enum status send_batch(struct watcher *watcher, const struct entry *const *entries,
	size_t count, uint64_t cursor, bool caught_up)
{
	Postern__V1__EventBatch batch = POSTERN__V1__EVENT_BATCH__INIT;
	struct entry_wire *wires = calloc(count ? count : 1, sizeof *wires);
	Postern__V1__Entry **messages = calloc(count ? count : 1, sizeof(Postern__V1__Entry *));
	enum status status = STATUS_RESOURCE_EXHAUSTED;
	if (wires && messages) {
		for (size_t i = 0; i < count; i++) {
			entry_to_wire(entries[i], &wires[i]);
			messages[i] = &wires[i].message;
		}
		batch.n_entries = count;
		batch.entries = messages;
		batch.cursor = cursor;
		batch.caught_up = caught_up;
		status = rpc_item(watcher->call, &batch.base);
	}
	free(wires);
	free(messages);
	if (status)
		return status;
	watcher->query.after = watcher->told = cursor;
	watcher->greeted |= caught_up;
	return STATUS_OK;
}

/* Nothing could be sent although there is credit: a connection that is gone says so itself,
 * anything else ends the watch. */
static void cannot_send(struct watcher *watcher, enum status status)
{
	struct error err;
	watcher->live = false;
	if (status == STATUS_UNAVAILABLE)
		return;
	error_set(&err, status, "events could not be sent: watch again from your cursor");
	watcher_end(watcher, &err);
}

/* ---- from the database ---- */

static void pump(void *arg);

static void on_page(void *arg, const struct entry *entries, size_t count, uint64_t next_after,
	bool at_end, const struct error *err)
{
	struct watcher *watcher = arg;
	const struct entry *pointers[STORE_PAGE_MAX];
	struct error failure = *err;
	watcher->reading = false;
	if (watcher->over && !failure.status)
		error_set(&failure, STATUS_CANCELLED, "the watch was ended");
	if (failure.status) {
		watcher_end(watcher, &failure);
		return;
	}
	for (size_t i = 0; i < count; i++)
		pointers[i] = &entries[i];
	if (at_end && next_after < watcher->read_head)
		next_after = watcher->read_head; /* all of that was looked at */
	enum status status =
		count > 0 ? send_batch(watcher, pointers, count, next_after, false) : STATUS_OK;
	if (status) {
		cannot_send(watcher, status);
		return;
	}
	watcher->query.after = next_after;
	pump(watcher);
}

static void read_behind(struct watcher *watcher)
{
	struct store *store = watcher->events->core->store;
	watcher->reading = true;
	watcher->read_head = store_head(store);
	watcher->query.limit = BATCH_ENTRIES;
	store_read(store, &watcher->query, on_page, watcher);
}

/* ---- from the ring ---- */

/* From its cursor to the newest entry, as far as credit goes. False: the watcher is gone, or waits.
 */
static bool feed(struct watcher *watcher)
{
	const struct events *events = watcher->events;
	while (watcher->query.after < events->newest) {
		const struct entry *batch[BATCH_ENTRIES];
		size_t count = 0;
		uint64_t cursor = watcher->query.after;
		while (cursor < events->newest && count < BATCH_ENTRIES) {
			const struct entry *entry = &events->ring[++cursor % RING_ENTRIES];
			if (wants(watcher, entry))
				batch[count++] = entry;
		}
		if (count > 0 && rpc_credit(watcher->call) == 0)
			return false;
		enum status status = count > 0
			? send_batch(watcher, batch, count, cursor, cursor == events->newest)
			: STATUS_OK;
		if (status) {
			cannot_send(watcher, status);
			return false;
		}
		watcher->query.after = cursor;
	}
	return true;
}

static void pump(void *arg)
{
	struct watcher *watcher = arg;
	struct events *events = watcher->events;
	if (watcher->reading || watcher->over || watcher->live)
		return;
	uint64_t head = events->newest ? events->newest : store_head(events->core->store);
	uint64_t first = events->newest ? events->oldest : head + 1;
	if (watcher->query.after < head && watcher->query.after + 1 < first) {
		if (rpc_credit(watcher->call) > 0)
			read_behind(watcher);
		return;
	}
	if (!feed(watcher))
		return;
	if (!watcher->greeted && rpc_credit(watcher->call) > 0) {
		enum status status = send_batch(watcher, NULL, 0, watcher->query.after, true);
		if (status) {
			cannot_send(watcher, status);
			return;
		}
	}
	watcher->live = watcher->greeted;
}

/* Those who were live have seen all that was for them before `touched_from`. */
static void tell(struct audience *audience)
{
	for (struct watcher *watcher = audience->watchers, *next; watcher; watcher = next) {
		next = watcher->next;
		if (!watcher->live)
			continue;
		if (watcher->query.after < audience->touched_from - 1)
			watcher->query.after = audience->touched_from - 1;
		watcher->live = false;
		pump(watcher);
	}
}

static void on_round(void *arg)
{
	struct events *events = arg;
	while (events->touched) {
		struct audience *audience = events->touched;
		events->touched = audience->next_touched;
		tell(audience);
		audience->touched_from = 0;
		audience_release(events, audience);
	}
}

static void touch(struct events *events, const char *filter, uint64_t sequence)
{
	struct audience *audience = audience_find(events, filter);
	if (!audience || audience->touched_from)
		return;
	audience->touched_from = sequence;
	audience->next_touched = events->touched;
	events->touched = audience;
}

static void keep(struct events *events, const struct entry *entry)
{
	struct entry *slot = &events->ring[entry->sequence % RING_ENTRIES];
	entry_fini(slot);
	bool whole = entry_copy(slot, entry);
	if (!events->newest)
		events->oldest = entry->sequence;
	events->newest = entry->sequence;
	if (!whole)
		events->oldest = entry->sequence + 1; /* it is read from the database instead */
	if (events->oldest + RING_ENTRIES <= events->newest)
		events->oldest = events->newest - RING_ENTRIES + 1;
}

static void on_committed(void *arg, const struct entry *entries, size_t count)
{
	struct events *events = arg;
	for (size_t i = 0; i < count; i++) {
		keep(events, &entries[i]);
		touch(events, "", entries[i].sequence);
		if (entries[i].notify)
			touch(events, entries[i].filter, entries[i].sequence);
	}
	if (events->touched && !events->round.queued && !events->core->stopping)
		loop_post(events->core->loop, &events->round, on_round, events);
}

/* ---- quiet watchers ---- */

static void on_cursors(void *arg)
{
	struct events *events = arg;
	for (struct audience *audience = events->first; audience && !events->round.queued;
		audience = audience->next) {
		for (struct watcher *watcher = audience->watchers; watcher;
			watcher = watcher->next) {
			if (!watcher->live || watcher->told >= events->newest ||
				rpc_credit(watcher->call) == 0)
				continue;
			/* If it cannot be sent nothing is lost but a search. */
			(void)send_batch(watcher, NULL, 0, events->newest, true);
		}
	}
	loop_timer_set(events->core->loop, &events->cursors, clock_mono_us() + CURSOR_US,
		on_cursors, events);
}

/* ---- calls ---- */

static enum status parse(
	const Postern__V1__WatchRequest *input, struct store_query *query, struct error *err)
{
	if (!copy_text(query->gateway, sizeof query->gateway, input->gateway))
		return error_field(err, "gateway", "gateway: the name is too long");
	if (input->grant[0] && !id_parse(input->grant, &query->grant))
		return error_field(err, "grant", "grant: \"%.60s\" is not a UUID", input->grant);
	for (size_t i = 0; i < input->n_kinds; i++) {
		if (input->kinds[i] <= 0 || (unsigned)input->kinds[i] > 62)
			return error_field(err, "kinds", "kinds: %d is not an entry kind",
				(int)input->kinds[i]);
		query->kinds |= 1ULL << (unsigned)input->kinds[i];
	}
	if (input->cursor > INT64_MAX)
		return error_field(err, "cursor", "cursor: not a sequence");
	query->after = input->cursor;
	return STATUS_OK;
}

static void handle_watch(Postern__V1__Events_Service *service,
	const Postern__V1__WatchRequest *input, Postern__V1__EventBatch_Closure closure, void *data)
{
	struct services *services = SERVICES_OF(service, watch);
	const struct rpc_principal *caller = rpc_call_principal(data);
	bool is_filter = caller->role == RPC_ROLE_FILTER;
	struct watcher *watcher = calloc(1, sizeof *watcher);
	struct audience *audience = NULL;
	struct error err;
	(void)closure;
	if (watcher && parse(input, &watcher->query, &err)) {
		free(watcher);
		rpc_fail(data, &err);
		return;
	}
	if (watcher)
		audience = audience_of(services->events, is_filter ? caller->name : "");
	if (!audience) {
		free(watcher);
		fail_without_memory(data);
		return;
	}
	watcher->events = services->events;
	watcher->call = data;
	uint64_t head = store_head(services->core->store);
	if (input->from_now || watcher->query.after > head)
		watcher->query.after = head;
	if (is_filter) {
		copy_text(watcher->query.filter, sizeof watcher->query.filter, caller->name);
		watcher->query.notify_only = true;
	}
	watcher_link(watcher, audience);
	rpc_on_end(data, on_end, watcher);
	rpc_on_credit(data, pump, watcher);
	pump(watcher);
}

enum status events_service_init(struct services *services, struct error *err)
{
	Postern__V1__Events_Service service = POSTERN__V1__EVENTS__INIT(handle_);
	services->watch = service;
	struct events *events = calloc(1, sizeof *events);
	if (!events)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	services->events = events;
	events->core = services->core;
	table_init(&events->audiences, match);
	store_on_committed(services->core->store, on_committed, events);
	loop_timer_set(services->core->loop, &events->cursors, clock_mono_us() + CURSOR_US,
		on_cursors, events);
	return STATUS_OK;
}

static void free_audience(struct table_node *node, void *arg)
{
	(void)arg;
	free(TABLE_OWNER(node, struct audience, node));
}

void events_service_fini(struct services *services)
{
	struct events *events = services->events;
	if (!events)
		return;
	loop_timer_clear(events->core->loop, &events->cursors);
	while (events->round.queued)
		loop_step(events->core->loop, 0);
	for (size_t i = 0; i < RING_ENTRIES; i++)
		entry_fini(&events->ring[i]);
	table_each(&events->audiences, free_audience, NULL);
	table_fini(&events->audiences);
	free(events);
	services->events = NULL;
}
