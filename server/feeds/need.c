/* A document that is to be applied needs a copy of each of its sources. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/feeds/source.h"

struct need_link { /* a need waits for a source */
	struct need_link *next;
	struct need *need;
	char path[96];
};

struct need {
	struct need *next;
	struct feeds *feeds;
	struct loop_task task;
	size_t open; /* sources that have not answered */
	struct error err;
	feeds_cb cb; /* NULL: forgotten */
	void *arg;
};

static void need_free(struct need *need)
{
	struct need **at = &need->feeds->needs;
	while (*at != need)
		at = &(*at)->next;
	*at = need->next;
	free(need);
}

static void on_need(void *arg)
{
	struct need *need = arg;
	feeds_cb cb = need->cb;
	void *cb_arg = need->arg;
	struct error err = need->err;
	need_free(need);
	if (cb)
		cb(cb_arg, &err);
}

static void check_need(struct need *need)
{
	if (need->open == 0)
		loop_post(need->feeds->config.loop, &need->task, on_need, need);
}

void source_end_needs(struct source *source, const struct error *err)
{
	struct need_link *link = source->needs;
	source->needs = NULL;
	while (link) {
		struct need_link *next = link->next;
		struct need *need = link->need;
		if (!source->copy && !need->err.status && err->status) {
			error_reason(&need->err, STATUS_FAILED_PRECONDITION,
				REASON_SOURCE_UNAVAILABLE,
				"%s: %s %.100s has never answered: %.120s", link->path,
				source_kind(source), source->record.name, err->text);
			snprintf(need->err.field, sizeof need->err.field, "%s", link->path);
		}
		need->open--;
		check_need(need);
		free(link);
		link = next;
	}
}

static void need_failed(struct need *need)
{
	if (!need->err.status)
		error_set(&need->err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
}

static void need_source(struct need *need, struct source *source, const char *path)
{
	/* One that was fetched for a document that never was in force is asked again. */
	if (source && source->copy && !source->unwritten)
		return;
	struct need_link *link = source ? calloc(1, sizeof *link) : NULL;
	if (!link || (!source->busy && !source_try(source))) {
		free(link);
		need_failed(need);
		return;
	}
	link->need = need;
	snprintf(link->path, sizeof link->path, "%s", path);
	link->next = source->needs;
	source->needs = link;
	need->open++;
}

static void need_names(
	struct need *need, const char *kind, const struct document_set *sets, size_t count)
{
	char path[96];
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < sets[i].names.count; j++) {
			snprintf(path, sizeof path, "%s[%zu].names[%zu]", kind, i, j);
			need_source(
				need, source_get(need->feeds, sets[i].names.items[j], NULL), path);
		}
}

static void need_feeds(struct need *need, const struct document *document)
{
	char path[96];
	for (size_t i = 0; i < document->feed_count; i++) {
		const struct document_feed *feed = &document->feeds[i];
		struct source *source = source_get(need->feeds, feed->name, feed->url);
		snprintf(path, sizeof path, "feeds[%zu].url", i);
		/* One that is in force keeps its word until the document is. */
		if (source && !source->followed && !source->busy && !source_configure(source, feed))
			source = NULL;
		need_source(need, source, path);
	}
}

void feeds_need(struct feeds *feeds, const struct document *document, feeds_cb cb, void *arg)
{
	struct need *need = calloc(1, sizeof *need);
	if (!need) {
		struct error err;
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		cb(arg, &err);
		return;
	}
	*need = (struct need){.next = feeds->needs, .feeds = feeds, .cb = cb, .arg = arg};
	feeds->needs = need;
	need->open = 1;
	need_feeds(need, document);
	need_names(need, "client_sets", document->client_sets, document->client_set_count);
	need_names(need, "destination_sets", document->destination_sets,
		document->destination_set_count);
	need->open--;
	check_need(need);
}

void feeds_forget(struct feeds *feeds, void *arg)
{
	for (struct need *need = feeds->needs; need; need = need->next)
		if (need->arg == arg)
			need->cb = NULL;
	for (struct source *source = feeds->first; source; source = source->next)
		for (struct waiter *waiter = source->waiters; waiter; waiter = waiter->next)
			if (waiter->arg == arg)
				waiter->cb = NULL;
}
