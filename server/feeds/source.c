#include "server/feeds/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define NAME_TIMEOUT_MS 10000
#define NAME_REFRESH_MS 300000 /* until an answer says how long it lives */

struct shared *shared_new(struct ranges *ranges)
{
	struct shared *copy = calloc(1, sizeof *copy);
	if (!copy)
		return NULL;
	copy->holders = 1;
	copy->ranges = *ranges;
	*ranges = (struct ranges){0};
	return copy;
}

void shared_release(struct shared *copy)
{
	if (!copy || atomic_fetch_sub_explicit(&copy->holders, 1, memory_order_acq_rel) != 1)
		return;
	ranges_fini(&copy->ranges);
	free(copy);
}

size_t shared_count(const struct shared *copy)
{
	return copy ? copy->ranges.v4_count + copy->ranges.v6_count : 0;
}

bool shared_is_same(const struct shared *copy, const struct ranges *ranges)
{
	const struct ranges *own = &copy->ranges;
	return own->v4_count == ranges->v4_count && own->v6_count == ranges->v6_count &&
		(own->v4_count == 0 ||
			memcmp(own->v4, ranges->v4, own->v4_count * sizeof *own->v4) == 0) &&
		(own->v6_count == 0 ||
			memcmp(own->v6, ranges->v6, own->v6_count * sizeof *own->v6) == 0);
}

/* ---- sources ---- */

struct key {
	char bytes[RECORD_SOURCE_SIZE + RECORD_URL_SIZE + 2];
	size_t size;
};

/* `url` NULL = a DNS name. */
static struct key key_of(const char *name, const char *url)
{
	struct key key;
	key.size = (size_t)snprintf(
		key.bytes, sizeof key.bytes, "%s%s%s", name, url ? " " : "", url ? url : "");
	return key;
}

bool source_matches(const struct table_node *node, const void *bytes, size_t size)
{
	const struct source *source = TABLE_OWNER(node, struct source, node);
	struct key key =
		key_of(source->record.name, source->record.is_name ? NULL : source->record.url);
	return key.size == size && memcmp(key.bytes, bytes, size) == 0;
}

struct source *source_find(const struct feeds *feeds, const char *name, const char *url)
{
	struct key key = key_of(name, url);
	struct table_node *node = table_find(&feeds->sources, key.bytes, key.size);
	return node ? TABLE_OWNER(node, struct source, node) : NULL;
}

struct source *source_get(struct feeds *feeds, const char *name, const char *url)
{
	struct source *source = source_find(feeds, name, url);
	struct key key = key_of(name, url);
	if (source)
		return source;
	source = calloc(1, sizeof *source);
	if (!source)
		return NULL;
	source->feeds = feeds;
	snprintf(source->record.name, sizeof source->record.name, "%s", name);
	source->record.is_name = !url;
	snprintf(source->record.url, sizeof source->record.url, "%s", url ? url : "");
	source->timeout_ms = NAME_TIMEOUT_MS;
	source->refresh_ms = NAME_REFRESH_MS;
	source->next_us = CLOCK_NEVER;
	if (!table_insert(&feeds->sources, &source->node, key.bytes, key.size)) {
		free(source);
		return NULL;
	}
	source->next = feeds->first;
	feeds->first = source;
	return source;
}

static bool differs(const char *text, const char *from)
{
	return text && strcmp(text, from) != 0;
}

static bool replace(char **text, const char *with)
{
	char *copy = strdup(with);
	if (!copy)
		return false;
	free(*text);
	*text = copy;
	return true;
}

bool source_configure(struct source *source, const struct document_feed *feed)
{
	/* What was "unchanged" since then is to be read in another way. */
	if ((source->json_pointer && source->is_json != feed->is_json) ||
		differs(source->json_pointer, feed->json_pointer) ||
		differs(source->json_key, feed->json_key))
		source->record.etag[0] = source->record.held_etag[0] = '\0';
	source->is_json = feed->is_json;
	source->refresh_ms = feed->refresh_ms;
	source->timeout_ms = feed->timeout_ms;
	source->max_size = feed->max_size;
	source->max_shrink = feed->max_shrink;
	return replace(&source->json_pointer, feed->json_pointer) &&
		replace(&source->json_key, feed->json_key) &&
		replace(&source->pinned_key, feed->pinned_key);
}

const char *source_kind(const struct source *source)
{
	return source->record.is_name ? "name" : "feed";
}

void source_free(struct source *source)
{
	shared_release(source->copy);
	shared_release(source->held);
	free(source->json_pointer);
	free(source->json_key);
	free(source->pinned_key);
	free(source);
}
