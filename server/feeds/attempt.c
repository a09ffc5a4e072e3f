/* A try to get a source's copy, and what becomes of the answer. A try that is under way belongs to
 * the fetcher and comes back to try_done(). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/feeds/copy.h"
#include "server/feeds/fetch.h"
#include "server/feeds/source.h"

#define PAUSE_FIRST_MS 5000 /* after a failure; doubles */
#define PAUSE_MOST_MS 300000
#define CHANGES_US 1000000 /* `changed` at most so often */

/* ---- what is written down ---- */

static void write_row(
	struct source *source, enum entry_kind kind, const char *what, const char *actor)
{
	struct feeds *feeds = source->feeds;
	struct feed_record row = source->record;
	struct entry entry;
	memset(&entry, 0, sizeof entry);
	entry.time_us = clock_real_us();
	entry.kind = kind;
	snprintf(entry.actor, sizeof entry.actor, "%s", actor);
	entry.count = shared_count(kind == ENTRY_FEED_HELD ? source->held : source->copy);
	snprintf(entry.detail, sizeof entry.detail, "%s %.90s: %.140s", source_kind(source),
		source->record.name, what ? what : "");
	row.content = row.held = NULL;
	if (source->copy)
		row.content = copy_pack(&source->copy->ranges, &row.content_size);
	if (source->held)
		row.held = copy_pack(&source->held->ranges, &row.held_size);
	if ((source->copy && !row.content) || (source->held && !row.held))
		log_err("feeds: %s was not written: out of memory", source->record.name);
	else
		feeds->config.write(feeds->config.arg, &row, what ? &entry : NULL);
	free(row.content);
	free(row.held);
}

static void on_change(void *arg)
{
	struct feeds *feeds = arg;
	feeds->change_due = false;
	feeds->config.changed(feeds->config.arg);
}

static void tell_change(struct feeds *feeds)
{
	if (feeds->change_due || feeds->stopping)
		return;
	feeds->change_due = true;
	loop_timer_set(feeds->config.loop, &feeds->change_clock, clock_mono_us() + CHANGES_US,
		on_change, feeds);
}

/* ---- trying ---- */

static void when_next(struct source *source, uint64_t pause_ms)
{
	/* Up to a tenth earlier, so that sources do not march in step. */
	uint64_t jitter = pause_ms / 10;
	uint64_t less = jitter ? (uint64_t)clock_mono_us() * 2654435761U % jitter : 0;
	source->next_us = clock_mono_us() + (int64_t)(pause_ms - less) * 1000;
}

static void answer_waiters(struct source *source, const struct error *err)
{
	struct waiter *waiter = source->waiters;
	source->waiters = NULL;
	while (waiter) {
		struct waiter *next = waiter->next;
		if (waiter->cb)
			waiter->cb(waiter->arg, err);
		free(waiter);
		waiter = next;
	}
}

static void note_failure(struct source *source, const struct error *err)
{
	bool first = source->record.error[0] == '\0';
	snprintf(source->record.error, sizeof source->record.error, "%.250s", err->text);
	source->pause_ms = source->pause_ms ? source->pause_ms * 2 : PAUSE_FIRST_MS;
	if (source->pause_ms > PAUSE_MOST_MS)
		source->pause_ms = PAUSE_MOST_MS;
	when_next(source, source->pause_ms);
	if (first && source->copy)
		write_row(source, ENTRY_FEED_FAILED, source->record.error, "");
	if (first)
		log_warn("feeds: %s %s: %s", source_kind(source), source->record.name, err->text);
}

void source_write_taken(struct source *source)
{
	char what[40];
	if (!source->unwritten)
		return;
	source->unwritten = false;
	snprintf(what, sizeof what, "%zu networks", shared_count(source->copy));
	write_row(source, ENTRY_FEED_CHANGED, what, "");
}

void source_take(struct source *source, struct shared *copy, const char *etag, const char *actor)
{
	char what[80];
	snprintf(what, sizeof what, "%zu networks, were %zu", shared_count(copy),
		shared_count(source->copy));
	bool was_there = source->copy != NULL;
	shared_release(source->copy);
	shared_release(source->held);
	source->copy = copy;
	source->held = NULL;
	snprintf(source->record.etag, sizeof source->record.etag, "%s", etag);
	source->record.held_etag[0] = '\0';
	source->record.fetched_us = clock_real_us();
	/* For a document that may never be in force nothing is written. */
	source->unwritten = !source->followed;
	if (source->followed)
		write_row(source, ENTRY_FEED_CHANGED, what, actor);
	if (was_there && source->followed)
		tell_change(source->feeds);
}

/* Of one family: how many addresses there are. */
static long double addresses(const struct shared *copy, bool ipv6)
{
	long double sum = 0;
	for (size_t i = 0; ipv6 && i < copy->ranges.v6_count; i++)
		sum += (long double)(copy->ranges.v6[i].last - copy->ranges.v6[i].first) + 1;
	for (size_t i = 0; !ipv6 && i < copy->ranges.v4_count; i++)
		sum += (long double)(copy->ranges.v4[i].last - copy->ranges.v4[i].first) + 1;
	return sum;
}

/* More than the share of the addresses of a family is gone, or with fewer addresses more than the
 * share of the networks: among large ones the loss of many small ones would not be seen. */
static bool shrank_too_much(const struct source *source, const struct shared *copy)
{
	const long double kept = 1 - (long double)source->max_shrink / 100;
	bool fewer = false;
	if (!source->copy || source->record.is_name)
		return false;
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		long double before = addresses(source->copy, ipv6), after = addresses(copy, ipv6);
		fewer |= after < before;
		if (after < before * kept)
			return true;
	}
	return fewer &&
		(long double)shared_count(copy) < (long double)shared_count(source->copy) * kept;
}

static void hold_back(struct source *source, struct shared *copy, const char *etag)
{
	char what[120];
	if (source->held && shared_is_same(source->held, &copy->ranges)) {
		shared_release(copy);
		return;
	}
	snprintf(what, sizeof what,
		"%zu networks instead of %zu are held back: postern feed confirm takes them",
		shared_count(copy), shared_count(source->copy));
	shared_release(source->held);
	source->held = copy;
	snprintf(source->record.held_etag, sizeof source->record.held_etag, "%s", etag);
	write_row(source, ENTRY_FEED_HELD, what, "");
	log_warn("feeds: %s: %s", source->record.name, what);
}

/* The copy in use is the newest again. `failed`: the try before was in vain, as the row says. */
static void stays(struct source *source, bool failed, const char *etag)
{
	bool was_held = source->held != NULL;
	snprintf(source->record.etag, sizeof source->record.etag, "%s", etag);
	shared_release(source->held);
	source->held = NULL;
	if (source->followed && (failed || was_held))
		write_row(source, ENTRY_FEED_CHANGED, NULL, "");
}

static void take_answer(struct source *source, struct fetch *fetch)
{
	bool failed = source->record.error[0] != '\0';
	source->record.error[0] = '\0';
	source->pause_ms = 0;
	when_next(source, source->record.is_name ? fetch->ttl_ms : source->refresh_ms);
	if (fetch->unchanged) {
		if (failed && source->followed)
			write_row(source, ENTRY_FEED_CHANGED, NULL, "");
		return;
	}
	if (source->copy && shared_is_same(source->copy, &fetch->ranges)) {
		stays(source, failed, fetch->new_etag);
		return;
	}
	struct shared *copy = shared_new(&fetch->ranges);
	if (!copy) {
		log_err("feeds: %s: out of memory", source->record.name);
		return;
	}
	if (shrank_too_much(source, copy))
		hold_back(source, copy, fetch->new_etag);
	else
		source_take(source, copy, fetch->new_etag, "");
}

static void try_done(struct fetch *fetch)
{
	struct source *source = fetch->arg;
	struct feeds *feeds = source->feeds;
	struct error err = fetch->err;
	source->busy = false;
	source->record.checked_us = clock_real_us();
	if (!feeds->stopping && err.status)
		note_failure(source, &err);
	else if (!feeds->stopping)
		take_answer(source, fetch);
	fetch_free(fetch);
	source_end_needs(source, &err);
	answer_waiters(source, &err);
	if (!feeds->stopping)
		source_set_clock(feeds);
}

static char *text_or_empty(const char *text)
{
	return strdup(text ? text : "");
}

bool source_try(struct source *source)
{
	struct fetch *fetch = calloc(1, sizeof *fetch);
	bool is_name = source->record.is_name;
	if (!fetch)
		return false;
	fetch->url = is_name ? NULL : strdup(source->record.url);
	fetch->name = strdup(source->record.name);
	/* While a copy is held back, "unchanged" is said of that one. */
	fetch->etag = text_or_empty(source->held ? source->record.held_etag
			: source->copy           ? source->record.etag
						 : "");
	fetch->pinned_key = text_or_empty(source->pinned_key);
	fetch->json_pointer = text_or_empty(source->json_pointer);
	fetch->json_key = text_or_empty(source->json_key);
	fetch->is_json = source->is_json;
	fetch->timeout_ms = source->timeout_ms;
	fetch->max_size = source->max_size;
	fetch->done = try_done;
	fetch->arg = source;
	if ((!is_name && !fetch->url) || !fetch->name || !fetch->etag || !fetch->pinned_key ||
		!fetch->json_pointer || !fetch->json_key) {
		fetch_free(fetch);
		return false;
	}
	source->busy = true;
	source->next_us = CLOCK_NEVER;
	fetcher_submit(source->feeds->fetcher, fetch);
	return true;
}

static void on_clock(void *arg)
{
	struct feeds *feeds = arg;
	int64_t now = clock_mono_us();
	for (struct source *source = feeds->first; source; source = source->next)
		if (source->followed && !source->busy && source->next_us <= now &&
			!source_try(source))
			when_next(source, PAUSE_FIRST_MS);
	source_set_clock(feeds);
}

void source_set_clock(struct feeds *feeds)
{
	int64_t next = CLOCK_NEVER;
	for (struct source *source = feeds->first; source; source = source->next)
		if (source->followed && !source->busy && source->next_us < next)
			next = source->next_us;
	if (next == CLOCK_NEVER)
		loop_timer_clear(feeds->config.loop, &feeds->clock);
	else
		loop_timer_set(feeds->config.loop, &feeds->clock, next, on_clock, feeds);
}
