#include "agent/item.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent/wire.h"

static size_t froms_of(const Postern__V1__Door *message)
{
	return message->n_remotes < DOOR_FROMS_MAX ? message->n_remotes : DOOR_FROMS_MAX;
}

static void item_add_door(struct item *item, const Postern__V1__Door *message)
{
	struct door door = {0};
	if (!id_parse(message->grant, &door.grant) || id_is_zero(&door.grant)) {
		item->nameless++;
		return;
	}
	const char *why = wire_read_door(message, item->froms + item->from_count, &door);
	item->from_count += froms_of(message);
	if (!why) {
		item->doors[item->sync.door_count++] = door;
		return;
	}
	struct door_failure *failure = &item->failures[item->sync.failure_count++];
	failure->grant = door.grant;
	snprintf(failure->cause, sizeof failure->cause, "%s", why);
}

static void item_add_primary(struct item *item, const Postern__V1__Primary *message)
{
	struct sync_primary *primary = &item->primaries[item->sync.primary_count];
	if (!id_parse(message->session, &primary->session) || id_is_zero(&primary->session)) {
		item->nameless++;
		return;
	}
	primary->is_sound = wire_read_primary(message->flow, &primary->wanted);
	item->sync.primary_count++;
}

/* Those that are no ids name nothing that we could have. */
static size_t read_ids(char *const *texts, size_t count, struct id *ids)
{
	size_t read = 0;
	for (size_t i = 0; i < count; i++)
		read += id_parse(texts[i], &ids[read]);
	return read;
}

static bool item_alloc(struct item *item, const Postern__V1__SyncItem *message)
{
	size_t froms = 0;
	for (size_t i = 0; i < message->n_doors; i++)
		froms += froms_of(message->doors[i]);
	item->doors = calloc(message->n_doors + 1, sizeof *item->doors);
	item->froms = calloc(froms + 1, sizeof *item->froms);
	item->failures = calloc(message->n_doors + 1, sizeof *item->failures);
	item->removed = calloc(message->n_removed + 1, sizeof *item->removed);
	item->cut = calloc(message->n_cut + 1, sizeof *item->cut);
	item->primaries = calloc(message->n_primaries + 1, sizeof *item->primaries);
	item->primaries_removed =
		calloc(message->n_primaries_removed + 1, sizeof *item->primaries_removed);
	return item->doors && item->froms && item->failures && item->removed && item->cut &&
		item->primaries && item->primaries_removed;
}

void item_fini(struct item *item)
{
	free(item->doors);
	free(item->froms);
	free(item->failures);
	free(item->removed);
	free(item->cut);
	free(item->primaries);
	free(item->primaries_removed);
}

bool item_read(struct item *item, const Postern__V1__SyncItem *message)
{
	struct sync_item *sync = &item->sync;
	*item = (struct item){0};
	if (!item_alloc(item, message))
		return false;
	sync->sequence = message->sequence;
	sync->snapshot = message->snapshot;
	sync->revision = message->revision;
	sync->snapshot_end = message->snapshot_end;
	for (size_t i = 0; i < message->n_doors; i++)
		item_add_door(item, message->doors[i]);
	for (size_t i = 0; i < message->n_primaries; i++)
		item_add_primary(item, message->primaries[i]);
	sync->removed_count = read_ids(message->removed, message->n_removed, item->removed);
	sync->cut_count = read_ids(message->cut, message->n_cut, item->cut);
	sync->primaries_removed_count = read_ids(
		message->primaries_removed, message->n_primaries_removed, item->primaries_removed);
	sync->doors = item->doors;
	sync->failures = item->failures;
	sync->removed = item->removed;
	sync->cut = item->cut;
	sync->primaries = item->primaries;
	sync->primaries_removed = item->primaries_removed;
	return true;
}
