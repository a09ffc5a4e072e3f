#include "server/fleet/sync.h"

#include <assert.h>
#include <string.h>

static void unlink_door(struct sync *sync, struct sync_door *door)
{
	struct sync_list *list = &sync->lists[door->place];
	*(door->previous ? &door->previous->next : &list->first) = door->next;
	*(door->next ? &door->next->previous : &list->last) = door->previous;
	door->next = door->previous = NULL;
}

static void move(struct sync *sync, struct sync_door *door, enum sync_place to)
{
	struct sync_list *list = &sync->lists[to];
	if (door->place != SYNC_OUT)
		unlink_door(sync, door);
	door->place = to;
	if (to == SYNC_OUT)
		return;
	door->previous = list->last;
	*(list->last ? &list->last->next : &list->first) = door;
	list->last = door;
}

void sync_init(struct sync *sync, uint64_t base)
{
	memset(sync, 0, sizeof *sync);
	sync->sequence = base;
}

void sync_add(struct sync *sync, struct sync_door *door)
{
	assert(door->place == SYNC_OUT);
	move(sync, door, SYNC_UNTOLD);
}

bool sync_remove(struct sync *sync, struct sync_door *door)
{
	switch (door->place) {
	case SYNC_OUT:
		return true;
	case SYNC_SNAPSHOT:
	case SYNC_UNTOLD:
		break;
	case SYNC_TOLD:
	case SYNC_HELD:
		if (!sync->open)
			break;
		move(sync, door, SYNC_LEAVING);
		return false;
	case SYNC_LEAVING:
	case SYNC_LEFT:
	case SYNC_PLACES:
		return false;
	}
	move(sync, door, SYNC_OUT);
	return true;
}

static void move_all(struct sync *sync, enum sync_place from, enum sync_place to)
{
	while (sync->lists[from].first)
		move(sync, sync->lists[from].first, to);
}

void sync_open(struct sync *sync)
{
	assert(!sync->lists[SYNC_LEAVING].first && !sync->lists[SYNC_LEFT].first);
	move_all(sync, SYNC_HELD, SYNC_SNAPSHOT);
	move_all(sync, SYNC_TOLD, SYNC_SNAPSHOT);
	move_all(sync, SYNC_UNTOLD, SYNC_SNAPSHOT);
	sync->open = true;
	sync->in_snapshot = true;
}

void sync_close(struct sync *sync)
{
	sync->open = false;
	sync->in_snapshot = false;
}

bool sync_has_item(const struct sync *sync)
{
	return sync->open &&
		(sync->in_snapshot || sync->lists[SYNC_UNTOLD].first ||
			sync->lists[SYNC_LEAVING].first);
}

/* Moves at most `most` doors and notes them; returns how many. */
static size_t take(struct sync *sync, enum sync_place from, enum sync_place to, int64_t now_us,
	struct sync_door **ret_doors, size_t most)
{
	size_t count = 0;
	while (sync->lists[from].first && count < most) {
		struct sync_door *door = sync->lists[from].first;
		move(sync, door, to);
		door->sequence = sync->sequence;
		door->told_us = now_us;
		ret_doors[count++] = door;
	}
	return count;
}

void sync_next(struct sync *sync, int64_t now_us, struct sync_item *ret_item)
{
	struct sync_item *item = ret_item;
	item->sequence = ++sync->sequence;
	item->snapshot = sync->in_snapshot;
	item->snapshot_end = false;
	item->removed_count = 0;
	item->door_count = 0;
	if (sync->in_snapshot) {
		item->door_count =
			take(sync, SYNC_SNAPSHOT, SYNC_TOLD, now_us, item->doors, SYNC_DOORS_MAX);
		item->snapshot_end = !sync->lists[SYNC_SNAPSHOT].first;
		sync->in_snapshot = !item->snapshot_end;
		return;
	}
	item->removed_count =
		take(sync, SYNC_LEAVING, SYNC_LEFT, now_us, item->removed, SYNC_REMOVED_MAX);
	if (!sync->lists[SYNC_LEAVING].first)
		item->door_count =
			take(sync, SYNC_UNTOLD, SYNC_TOLD, now_us, item->doors, SYNC_DOORS_MAX);
}

struct sync_door *sync_pop_held(struct sync *sync, uint64_t sequence)
{
	struct sync_door *door = sync->lists[SYNC_TOLD].first;
	if (!door || door->sequence > sequence)
		return NULL;
	move(sync, door, SYNC_HELD);
	return door;
}

struct sync_door *sync_pop_gone(struct sync *sync, uint64_t sequence)
{
	struct sync_door *door = sync->lists[SYNC_LEFT].first;
	if (!sync->open && !door)
		door = sync->lists[SYNC_LEAVING].first;
	if (!door || (sync->open && door->sequence > sequence))
		return NULL;
	move(sync, door, SYNC_OUT);
	return door;
}
