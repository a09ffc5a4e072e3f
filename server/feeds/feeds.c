/* A source exists since a document named it or the database knew it; only those of the document in
 * force are refreshed. Copies are counted and shared with the thread that compiles. */
#include "server/feeds/feeds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/feeds/copy.h"
#include "server/feeds/fetch.h"
#include "server/feeds/source.h"

/* ---- following ---- */

static void follow(struct source *source)
{
	int64_t now = clock_mono_us();
	bool was_followed = source->followed;
	source->followed = true;
	source_write_taken(source);
	if (source->busy || (was_followed && source->next_us != CLOCK_NEVER))
		return;
	/* One that just answered for feeds_need() has its time; one of the disk is tried soon. */
	if (source->next_us == CLOCK_NEVER)
		source->next_us = now;
}

static void follow_names(struct feeds *feeds, const struct document_set *sets, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < sets[i].names.count; j++) {
			struct source *source = source_get(feeds, sets[i].names.items[j], NULL);
			if (source)
				follow(source);
		}
}

void feeds_follow(struct feeds *feeds, const struct document *document)
{
	for (struct source *source = feeds->first; source; source = source->next)
		source->followed = false;
	for (size_t i = 0; i < document->feed_count; i++) {
		struct source *source =
			source_get(feeds, document->feeds[i].name, document->feeds[i].url);
		if (!source || !source_configure(source, &document->feeds[i])) {
			log_err("feeds: %s is not refreshed: out of memory",
				document->feeds[i].name);
			continue;
		}
		follow(source);
	}
	follow_names(feeds, document->client_sets, document->client_set_count);
	follow_names(feeds, document->destination_sets, document->destination_set_count);
	source_set_clock(feeds);
}

/* ---- sources of a document ---- */

struct held_sources {
	struct feeds_sources base;
	struct shared **copies;
	char **names;
};

static size_t count_sources(const struct document *document)
{
	size_t count = document->feed_count;
	for (size_t i = 0; i < document->client_set_count; i++)
		count += document->client_sets[i].names.count;
	for (size_t i = 0; i < document->destination_set_count; i++)
		count += document->destination_sets[i].names.count;
	return count;
}

static bool hold_source(struct held_sources *held, const struct source *source)
{
	if (!source || !source->copy)
		return true;
	size_t at = held->base.count;
	held->names[at] = strdup(source->record.name);
	if (!held->names[at])
		return false;
	atomic_fetch_add_explicit(&source->copy->holders, 1, memory_order_relaxed);
	held->copies[at] = source->copy;
	held->base.items[at] = (struct policy_source){.name = held->names[at],
		.is_name = source->record.is_name,
		.addresses = &source->copy->ranges};
	held->base.count++;
	return true;
}

static bool hold_names(struct held_sources *held, const struct feeds *feeds,
	const struct document_set *sets, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < sets[i].names.count; j++)
			if (!hold_source(held, source_find(feeds, sets[i].names.items[j], NULL)))
				return false;
	return true;
}

struct feeds_sources *feeds_sources(struct feeds *feeds, const struct document *document)
{
	struct held_sources *held = calloc(1, sizeof *held);
	size_t most = count_sources(document) + 1;
	if (!held)
		return NULL;
	held->base.items = calloc(most, sizeof *held->base.items);
	held->copies = calloc(most, sizeof *held->copies);
	held->names = calloc(most, sizeof *held->names);
	bool done = held->base.items && held->copies && held->names;
	for (size_t i = 0; i < document->feed_count && done; i++)
		done = hold_source(
			held, source_find(feeds, document->feeds[i].name, document->feeds[i].url));
	done = done && hold_names(held, feeds, document->client_sets, document->client_set_count) &&
		hold_names(
			held, feeds, document->destination_sets, document->destination_set_count);
	if (done)
		return &held->base;
	feeds_sources_free(&held->base);
	return NULL;
}

void feeds_sources_free(struct feeds_sources *sources)
{
	struct held_sources *held = (struct held_sources *)sources;
	if (!held)
		return;
	for (size_t i = 0; i < held->base.count; i++) {
		shared_release(held->copies[i]);
		free(held->names[i]);
	}
	free(held->base.items);
	free(held->copies);
	free(held->names);
	free(held);
}

/* ---- beginning and end ---- */

enum status feeds_new(
	const struct feeds_config *config, struct feeds **ret_feeds, struct error *err)
{
	struct feeds *feeds = calloc(1, sizeof *feeds);
	if (!feeds)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	feeds->config = *config;
	table_init(&feeds->sources, source_matches);
	enum status status = fetcher_new(config->loop, config->ca_file, &feeds->fetcher, err);
	if (status) {
		table_fini(&feeds->sources);
		free(feeds);
		return status;
	}
	*ret_feeds = feeds;
	return STATUS_OK;
}

void feeds_free(struct feeds *feeds)
{
	if (!feeds)
		return;
	feeds->stopping = true;
	loop_timer_clear(feeds->config.loop, &feeds->clock);
	loop_timer_clear(feeds->config.loop, &feeds->change_clock);
	fetcher_free(feeds->fetcher);
	while (feeds->needs)
		loop_step(feeds->config.loop, 0); /* they are posted */
	while (feeds->first) {
		struct source *source = feeds->first;
		feeds->first = source->next;
		source_free(source);
	}
	table_fini(&feeds->sources);
	free(feeds);
}

bool feeds_load(struct feeds *feeds, const struct feed_record *record)
{
	struct source *source =
		source_get(feeds, record->name, record->is_name ? NULL : record->url);
	struct ranges ranges;
	if (!source)
		return false;
	source->record = *record;
	source->record.content = source->record.held = NULL;
	if (record->content && copy_unpack(record->content, record->content_size, &ranges) &&
		!(source->copy = shared_new(&ranges)))
		return false;
	if (record->held && copy_unpack(record->held, record->held_size, &ranges) &&
		!(source->held = shared_new(&ranges)))
		return false;
	return true;
}

/* ---- for people ---- */

static void tell(const struct source *source, feed_state_cb cb, void *arg)
{
	static const struct ranges none;
	struct feed_state state = {.record = &source->record,
		.addresses = source->copy ? &source->copy->ranges : &none,
		.held = source->held ? &source->held->ranges : NULL,
		.url = source->record.url};
	if (source->next_us != CLOCK_NEVER)
		state.next_us = clock_real_us() + (source->next_us - clock_mono_us());
	cb(arg, &state);
}

void feeds_each(const struct feeds *feeds, feed_state_cb cb, void *arg)
{
	for (const struct source *source = feeds->first; source; source = source->next)
		if (source->followed)
			tell(source, cb, arg);
}

/* A feed, or else a DNS name, of the document in force. */
static struct source *find_any(const struct feeds *feeds, const char *name)
{
	struct source *found = NULL;
	for (struct source *source = feeds->first; source; source = source->next)
		if (source->followed && strcmp(source->record.name, name) == 0 &&
			(!found || !source->record.is_name))
			found = source;
	return found;
}

bool feeds_find(const struct feeds *feeds, const char *name, feed_state_cb cb, void *arg)
{
	const struct source *source = find_any(feeds, name);
	if (source)
		tell(source, cb, arg);
	return source != NULL;
}

static enum status unknown(const char *name, struct error *err)
{
	error_set(err, STATUS_NOT_FOUND,
		"name: no feed or DNS name of the document in force is called \"%.60s\": see "
		"`postern feed list`",
		name);
	snprintf(err->field, sizeof err->field, "name");
	return err->status;
}

void feeds_refresh(struct feeds *feeds, const char *name, feeds_cb cb, void *arg)
{
	struct source *source = find_any(feeds, name);
	struct waiter *waiter = source ? calloc(1, sizeof *waiter) : NULL;
	struct error err;
	if (!source)
		(void)unknown(name, &err);
	else
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (!waiter || (!source->busy && !source_try(source))) {
		free(waiter);
		cb(arg, &err);
		return;
	}
	*waiter = (struct waiter){.next = source->waiters, .cb = cb, .arg = arg};
	source->waiters = waiter;
}

enum status feeds_confirm(
	struct feeds *feeds, const char *name, const char *actor, struct error *err)
{
	struct source *source = find_any(feeds, name);
	if (!source)
		return unknown(name, err);
	if (!source->held)
		return error_set(err, STATUS_FAILED_PRECONDITION, "%s: no copy is held back",
			source->record.name);
	struct shared *copy = source->held;
	source->held = NULL;
	char etag[sizeof source->record.held_etag];
	memcpy(etag, source->record.held_etag, sizeof etag);
	source_take(source, copy, etag, actor);
	return STATUS_OK;
}
