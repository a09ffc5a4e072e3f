#include "server/fleet/sync.h"

#include <string.h>

void sync_init(struct sync *sync, uint64_t base)
{
	memset(sync, 0, sizeof *sync);
	sync->sequence = base;
}

void sync_add_cut(struct sync *sync, struct wanted *cut)
{
	if (cut->place == WANTED_OUT)
		wanted_add(&sync->cuts, cut);
}

void sync_obey(struct sync *sync, uint64_t revision)
{
	sync->revision = revision;
}

void sync_open(struct sync *sync)
{
	sync->revision_told = 0;
	wanted_open(&sync->doors);
	wanted_open(&sync->primaries);
	wanted_open(&sync->cuts);
	sync->open = true;
	sync->in_snapshot = true;
}

void sync_close(struct sync *sync)
{
	wanted_close(&sync->doors);
	wanted_close(&sync->primaries);
	wanted_close(&sync->cuts);
	sync->open = false;
	sync->in_snapshot = false;
}

static bool has_delta(const struct wanted_list *list)
{
	return !wanted_is_empty(list, WANTED_UNTOLD) || !wanted_is_empty(list, WANTED_LEAVING);
}

bool sync_has_item(const struct sync *sync)
{
	return sync->open &&
		(sync->in_snapshot || has_delta(&sync->doors) || has_delta(&sync->primaries) ||
			has_delta(&sync->cuts) || !wanted_is_empty(&sync->cuts, WANTED_SNAPSHOT) ||
			sync->revision != sync->revision_told);
}

static void take_snapshot(struct sync *sync, const struct wanted_item *now, struct sync_item *item)
{
	item->door_count =
		wanted_take(&sync->doors, WANTED_SNAPSHOT, now, item->doors, SYNC_DOORS_MAX);
	item->primary_count = wanted_take(
		&sync->primaries, WANTED_SNAPSHOT, now, item->primaries, SYNC_PRIMARIES_MAX);
	item->snapshot_end = wanted_is_empty(&sync->doors, WANTED_SNAPSHOT) &&
		wanted_is_empty(&sync->primaries, WANTED_SNAPSHOT);
	sync->in_snapshot = !item->snapshot_end;
}

static void take_delta(struct sync *sync, const struct wanted_item *now, struct sync_item *item)
{
	item->primary_count = wanted_take(
		&sync->primaries, WANTED_UNTOLD, now, item->primaries, SYNC_PRIMARIES_MAX);
	item->primaries_removed_count = wanted_take(
		&sync->primaries, WANTED_LEAVING, now, item->primaries_removed, SYNC_REMOVED_MAX);
	item->removed_count =
		wanted_take(&sync->doors, WANTED_LEAVING, now, item->removed, SYNC_REMOVED_MAX);
	if (wanted_is_empty(&sync->doors, WANTED_LEAVING))
		item->door_count =
			wanted_take(&sync->doors, WANTED_UNTOLD, now, item->doors, SYNC_DOORS_MAX);
}

static size_t take_cuts(struct sync *sync, const struct wanted_item *now, struct wanted **ret_cuts)
{
	size_t count = wanted_take(&sync->cuts, WANTED_SNAPSHOT, now, ret_cuts, SYNC_CUT_MAX);
	return count +
		wanted_take(
			&sync->cuts, WANTED_UNTOLD, now, ret_cuts + count, SYNC_CUT_MAX - count);
}

/* What a revision removed or cut is in this item or in one before. */
static uint64_t revision_to_tell(struct sync *sync)
{
	if (sync->in_snapshot || sync->revision == sync->revision_told ||
		!wanted_is_empty(&sync->doors, WANTED_LEAVING) || has_delta(&sync->cuts) ||
		!wanted_is_empty(&sync->cuts, WANTED_SNAPSHOT))
		return 0;
	sync->revision_told = sync->revision;
	return sync->revision;
}

void sync_next(struct sync *sync, int64_t now_us, struct sync_item *ret_item)
{
	struct sync_item *item = ret_item;
	const struct wanted_item now = {.sequence = ++sync->sequence, .now_us = now_us};
	item->sequence = now.sequence;
	item->snapshot = sync->in_snapshot;
	item->snapshot_end = false;
	item->door_count = item->removed_count = item->cut_count = 0;
	item->primary_count = item->primaries_removed_count = 0;
	if (item->snapshot)
		take_snapshot(sync, &now, item);
	else
		take_delta(sync, &now, item);
	/* Behind every removal. */
	if (!sync->in_snapshot && wanted_is_empty(&sync->doors, WANTED_LEAVING))
		item->cut_count = take_cuts(sync, &now, item->cut);
	item->revision = revision_to_tell(sync);
}

struct wanted *sync_pop_cut(struct sync *sync, uint64_t sequence)
{
	struct wanted *cut = sync->cuts.places[WANTED_TOLD].first;
	return sync->open && cut && wanted_drop(&sync->cuts, cut, sequence) ? cut : NULL;
}
