/* Design.
 *
 *   put -> find, mark, read -+-> followed -- DESTROY, TCP's end, gone from a check --> ended
 *                            +-> ended (there is none)
 *
 * Reading comes after marking: what ended before the mark was set gives no event, and what ends
 * after it does. One that has ended is told once and leaves the books; only when memory was out it
 * stays, as over, until a check can tell it. */
#include "agent/primaries.h"

#include <stdlib.h>
#include <string.h>

struct primary {
	struct table_node session_node, entry_node;
	struct primary *next, *previous;
	struct id session;
	struct tracked entry;
	bool is_over; /* and that could not be told yet */
	bool is_unconfirmed; /* by the snapshot under way */
};

static bool match_session(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct primary, session_node)->session.bytes, key, size) ==
		0;
}

static bool match_entry(const struct table_node *node, const void *key, size_t size)
{
	struct tracked_key own;
	tracked_key(&TABLE_OWNER(node, struct primary, entry_node)->entry, &own);
	return memcmp(&own, key, size) == 0;
}

void primaries_init(struct primaries *primaries, const struct primary_hooks *hooks, void *arg)
{
	memset(primaries, 0, sizeof *primaries);
	table_init(&primaries->sessions, match_session);
	table_init(&primaries->entries, match_entry);
	primaries->hooks = hooks;
	primaries->arg = arg;
}

static void append(struct primaries *primaries, struct primary *primary)
{
	primary->next = NULL;
	primary->previous = primaries->last;
	if (primaries->last)
		primaries->last->next = primary;
	else
		primaries->first = primary;
	primaries->last = primary;
}

static void detach(struct primaries *primaries, struct primary *primary)
{
	if (primary->next)
		primary->next->previous = primary->previous;
	else
		primaries->last = primary->previous;
	if (primary->previous)
		primary->previous->next = primary->next;
	else
		primaries->first = primary->next;
}

static void forget(struct primaries *primaries, struct primary *primary)
{
	detach(primaries, primary);
	table_remove(&primaries->sessions, &primary->session_node);
	table_remove(&primaries->entries, &primary->entry_node);
	free(primary);
}

void primaries_fini(struct primaries *primaries)
{
	while (primaries->first)
		forget(primaries, primaries->first);
	table_fini(&primaries->sessions);
	table_fini(&primaries->entries);
}

size_t primaries_count(const struct primaries *primaries)
{
	return table_count(&primaries->sessions);
}

static struct primary *find_session(const struct primaries *primaries, const struct id *session)
{
	struct table_node *node =
		table_find(&primaries->sessions, session->bytes, sizeof session->bytes);
	return node ? TABLE_OWNER(node, struct primary, session_node) : NULL;
}

static struct primary *find_entry(const struct primaries *primaries, const struct tracked *entry)
{
	struct tracked_key key;
	tracked_key(entry, &key);
	struct table_node *node = table_find(&primaries->entries, &key, sizeof key);
	return node ? TABLE_OWNER(node, struct primary, entry_node) : NULL;
}

/* True: told and forgotten. */
static bool end(struct primaries *primaries, struct primary *primary)
{
	primary->is_over = true;
	if (!primaries->hooks->ended(primaries->arg, &primary->session))
		return false;
	forget(primaries, primary);
	return true;
}

static bool follow(
	struct primaries *primaries, const struct id *session, const struct tracked *entry)
{
	struct primary *primary = calloc(1, sizeof *primary);
	struct tracked_key key;
	if (!primary)
		return false;
	primary->session = *session;
	primary->entry = *entry;
	tracked_key(entry, &key);
	if (!table_insert(&primaries->sessions, &primary->session_node, session->bytes,
		    sizeof session->bytes)) {
		free(primary);
		return false;
	}
	if (!table_insert(&primaries->entries, &primary->entry_node, &key, sizeof key)) {
		table_remove(&primaries->sessions, &primary->session_node);
		free(primary);
		return false;
	}
	append(primaries, primary);
	return true;
}

bool primaries_put(
	struct primaries *primaries, const struct id *session, const struct tracked *wanted)
{
	const struct primary_hooks *hooks = primaries->hooks;
	struct primary *known = find_session(primaries, session);
	struct tracked entry;
	if (known) {
		known->is_unconfirmed = false;
		return true;
	}
	bool is_there = hooks->find(primaries->arg, wanted, &entry);
	if (is_there) {
		hooks->mark(primaries->arg, &entry, true);
		is_there = hooks->read(primaries->arg, &entry) && !entry.is_over;
	}
	if (!is_there)
		return hooks->ended(primaries->arg, session);
	return follow(primaries, session, &entry);
}

static void release(struct primaries *primaries, struct primary *primary)
{
	struct tracked entry = primary->entry;
	bool is_over = primary->is_over;
	forget(primaries, primary);
	if (!is_over && !find_entry(primaries, &entry))
		primaries->hooks->mark(primaries->arg, &entry, false);
}

void primaries_remove(struct primaries *primaries, const struct id *session)
{
	struct primary *primary = find_session(primaries, session);
	if (primary)
		release(primaries, primary);
}

void primaries_snapshot_begin(struct primaries *primaries)
{
	for (struct primary *primary = primaries->first; primary; primary = primary->next)
		primary->is_unconfirmed = true;
}

void primaries_snapshot_end(struct primaries *primaries)
{
	for (struct primary *primary = primaries->first, *next; primary; primary = next) {
		next = primary->next;
		if (primary->is_unconfirmed)
			release(primaries, primary);
	}
}

void primaries_event(
	struct primaries *primaries, enum track_event event, const struct tracked *entry)
{
	struct primary *primary;
	if (!entry->is_primary || (event != TRACK_DESTROY && !entry->is_over))
		return;
	while ((primary = find_entry(primaries, entry)) && !primary->is_over)
		if (!end(primaries, primary))
			return;
}

static bool check(struct primaries *primaries, struct primary *primary)
{
	struct tracked entry = primary->entry;
	if (!primary->is_over && primaries->hooks->read(primaries->arg, &entry) && !entry.is_over) {
		if (!entry.is_primary)
			primaries->hooks->mark(primaries->arg, &entry, true);
		return true;
	}
	return end(primaries, primary);
}

bool primaries_check(struct primaries *primaries, size_t most)
{
	size_t count = primaries_count(primaries);
	bool told = true;
	if (most > count)
		most = count;
	for (; most > 0; most--) {
		struct primary *primary = primaries->first;
		detach(primaries, primary);
		append(primaries, primary);
		told &= check(primaries, primary);
	}
	return told;
}
