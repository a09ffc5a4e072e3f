/* Events.Watch: the journal as it grows.
 *
 * Committed entries go into a ring. A watcher whose cursor lies within the ring is fed from it; one
 * that is behind (it came late, or is slow) reads pages from the database until it has caught up
 * with the ring. Credit says how many batches a watcher may be sent; without credit it simply falls
 * behind, at nobody's cost. A cursor passes entries that are not for its watcher. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/service/service.h"

#define RING_ENTRIES 4096
#define BATCH_ENTRIES 128

struct watcher {
	struct events *events;
	struct watcher *next, *previous;
	struct rpc_call *call;
	struct store_query query; /* also the filter of live entries */
	bool reading, over, told_caught_up;
};

struct events {
	struct core *core;
	struct entry ring[RING_ENTRIES]; /* of sequence s at s % RING_ENTRIES; contexts owned */
	uint64_t newest, oldest; /* sequences in the ring; newest 0 = empty */
	struct watcher *watchers;
	struct loop_task task;
	bool posted;
};

static bool wants(const struct watcher *watcher, const struct entry *entry)
{
	const struct store_query *query = &watcher->query;
	return (!query->kinds || (query->kinds >> (unsigned)entry->kind & 1)) &&
		(!query->gateway[0] || strcmp(query->gateway, entry->gateway) == 0) &&
		(id_is_zero(&query->grant) || id_equal(&query->grant, &entry->grant)) &&
		(!query->filter[0] || strcmp(query->filter, entry->filter) == 0) &&
		(!query->notify_only || entry->notify);
}

static void watcher_end(struct watcher *watcher, const struct error *err)
{
	if (watcher->previous)
		watcher->previous->next = watcher->next;
	else
		watcher->events->watchers = watcher->next;
	if (watcher->next)
		watcher->next->previous = watcher->previous;
	rpc_fail(watcher->call, err);
	free(watcher);
}

static void over(void *arg, enum status why)
{
	struct watcher *watcher = arg;
	struct error err;
	watcher->over = true;
	if (watcher->reading)
		return; /* the page's callback ends it */
	error_set(&err, why, "the watch was ended");
	watcher_end(watcher, &err);
}

/* False: not sent (no credit, connection gone, memory); the watcher stays where it is. */
static bool send_batch(struct watcher *watcher, const struct entry *const *entries, size_t count,
	uint64_t cursor, bool caught_up)
{
	Postern__V1__EventBatch batch = POSTERN__V1__EVENT_BATCH__INIT;
	struct entry_wire *wires = calloc(count ? count : 1, sizeof *wires);
	Postern__V1__Entry **messages = calloc(count ? count : 1, sizeof(Postern__V1__Entry *));
	bool sent = false;
	if (wires && messages) {
		for (size_t i = 0; i < count; i++) {
			entry_to_wire(entries[i], &wires[i]);
			messages[i] = &wires[i].message;
		}
		batch.n_entries = count;
		batch.entries = messages;
		batch.cursor = cursor;
		batch.caught_up = caught_up;
		sent = rpc_item(watcher->call, &batch.base) == STATUS_OK;
	}
	free(wires);
	free(messages);
	if (sent && caught_up)
		watcher->told_caught_up = true;
	return sent;
}

static void pump(void *arg);

static void on_page(void *arg, const struct entry *entries, size_t count, uint64_t next_after,
	bool at_end, const struct error *err)
{
	struct watcher *watcher = arg;
	const struct entry *pointers[STORE_PAGE_MAX];
	struct error failure = *err;
	watcher->reading = false;
	(void)at_end;
	if (watcher->over && !failure.status)
		error_set(&failure, STATUS_CANCELLED, "the watch was ended");
	if (failure.status) {
		watcher_end(watcher, &failure);
		return;
	}
	for (size_t i = 0; i < count; i++)
		pointers[i] = &entries[i];
	if (count > 0 && !send_batch(watcher, pointers, count, next_after, false))
		return;
	watcher->query.after = next_after;
	pump(watcher);
}

static void feed_from_ring(struct watcher *watcher)
{
	struct events *events = watcher->events;
	while (watcher->query.after < events->newest && rpc_credit(watcher->call) > 0) {
		const struct entry *batch[BATCH_ENTRIES];
		size_t count = 0;
		uint64_t cursor = watcher->query.after;
		while (cursor < events->newest && count < BATCH_ENTRIES) {
			const struct entry *entry = &events->ring[++cursor % RING_ENTRIES];
			if (wants(watcher, entry))
				batch[count++] = entry;
		}
		if (count > 0 &&
			!send_batch(watcher, batch, count, cursor, cursor == events->newest))
			return;
		watcher->query.after = cursor;
	}
}

static void pump(void *arg)
{
	struct watcher *watcher = arg;
	struct events *events = watcher->events;
	if (watcher->reading || watcher->over || rpc_credit(watcher->call) == 0)
		return;
	uint64_t head = events->newest ? events->newest : store_head(events->core->store);
	uint64_t first_in_ring = events->newest ? events->oldest : head + 1;
	if (watcher->query.after < head && watcher->query.after + 1 < first_in_ring) {
		watcher->reading = true;
		watcher->query.limit = BATCH_ENTRIES;
		store_read(events->core->store, &watcher->query, on_page, watcher);
		return;
	}
	feed_from_ring(watcher);
	if (!watcher->told_caught_up && watcher->query.after >= head)
		(void)send_batch(watcher, NULL, 0, watcher->query.after, true);
}

static void pump_all(void *arg)
{
	struct events *events = arg;
	events->posted = false;
	for (struct watcher *watcher = events->watchers, *next; watcher; watcher = next) {
		next = watcher->next;
		pump(watcher);
	}
}

static void on_committed(void *arg, const struct entry *entries, size_t count)
{
	struct events *events = arg;
	for (size_t i = 0; i < count; i++) {
		struct entry *slot = &events->ring[entries[i].sequence % RING_ENTRIES];
		entry_fini(slot);
		*slot = entries[i];
		slot->owned = NULL;
		slot->context = NULL;
		if (entries[i].context_size > 0) {
			slot->owned = malloc(entries[i].context_size);
			if (slot->owned)
				memcpy(slot->owned, entries[i].context, entries[i].context_size);
			slot->context = slot->owned;
		}
		if (!events->newest || (entries[i].context_size > 0 && !slot->owned)) {
			/* An entry that could not be kept whole is read from the database instead.
			 */
			events->oldest = slot->context_size && !slot->owned
				? entries[i].sequence + 1
				: entries[i].sequence;
		}
		events->newest = entries[i].sequence;
		if (events->newest - events->oldest >= RING_ENTRIES)
			events->oldest = events->newest - RING_ENTRIES + 1;
	}
	if (!events->posted && events->watchers && !events->core->stopping) {
		events->posted = true;
		loop_post(events->core->loop, &events->task, pump_all, events);
	}
}

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
	struct watcher *watcher = calloc(1, sizeof *watcher);
	struct error err;
	(void)closure;
	if (!watcher)
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (!watcher || parse(input, &watcher->query, &err)) {
		free(watcher);
		rpc_fail(data, &err);
		return;
	}
	watcher->events = services->events;
	watcher->call = data;
	uint64_t head = store_head(services->core->store);
	if (input->from_now || watcher->query.after > head)
		watcher->query.after = head;
	if (caller->role == RPC_ROLE_FILTER) {
		copy_text(watcher->query.filter, sizeof watcher->query.filter, caller->name);
		watcher->query.notify_only = true;
	}
	watcher->next = services->events->watchers;
	if (watcher->next)
		watcher->next->previous = watcher;
	services->events->watchers = watcher;
	rpc_on_end(data, over, watcher);
	rpc_on_credit(data, pump, watcher);
	pump(watcher);
}

enum status events_service_init(struct services *services, struct error *err)
{
	Postern__V1__Events_Service service = POSTERN__V1__EVENTS__INIT(handle_);
	services->watch = service;
	services->events = calloc(1, sizeof *services->events);
	if (!services->events)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	services->events->core = services->core;
	store_on_committed(services->core->store, on_committed, services->events);
	return STATUS_OK;
}

void events_service_fini(struct services *services)
{
	if (!services->events)
		return;
	for (size_t i = 0; i < RING_ENTRIES; i++)
		entry_fini(&services->events->ring[i]);
	free(services->events);
	services->events = NULL;
}
