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
	if (to == SYNC_OUT) {
		door->known = door->with_next = false;
		return;
	}
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
		break;
	case SYNC_UNTOLD:
	case SYNC_TOLD:
	case SYNC_HELD:
		if (!sync->open || !door->known)
			break;
		move(sync, door, SYNC_LEAVING);
		return false;
	case SYNC_LEAVING:
	case SYNC_LEFT:
	case SYNC_CUT:
	case SYNC_CUT_TOLD:
	case SYNC_PLACES:
		return false;
	}
	move(sync, door, SYNC_OUT);
	return true;
}

void sync_retell(struct sync *sync, struct sync_door *door)
{
	if (door->place == SYNC_TOLD || door->place == SYNC_HELD)
		move(sync, door, SYNC_UNTOLD);
}

bool sync_drop(struct sync *sync, struct sync_door *door, uint64_t sequence)
{
	if (door->place != SYNC_TOLD || door->sequence > sequence)
		return false;
	move(sync, door, SYNC_OUT);
	return true;
}

void sync_add_cut(struct sync *sync, struct sync_door *cut)
{
	if (cut->place == SYNC_OUT)
		move(sync, cut, SYNC_CUT);
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
	watches_open(&sync->watches);
	move_all(sync, SYNC_CUT_TOLD, SYNC_CUT);
	for (struct sync_door *door = sync->lists[SYNC_SNAPSHOT].first; door; door = door->next)
		door->known = door->with_next = false;
	sync->open = true;
	sync->in_snapshot = true;
}

void sync_close(struct sync *sync)
{
	watches_close(&sync->watches);
	sync->open = false;
	sync->in_snapshot = false;
}

bool sync_has_item(const struct sync *sync)
{
	return sync->open &&
		(sync->in_snapshot || sync->lists[SYNC_UNTOLD].first ||
			sync->lists[SYNC_LEAVING].first || sync->lists[SYNC_CUT].first ||
			watches_wait(&sync->watches));
}

/* How many travel together, this one first; at most `most`. */
static size_t group_size(const struct sync_door *door, size_t most)
{
	size_t size = 1;
	for (; door->with_next && door->next && size < most; door = door->next)
		size++;
	return size;
}

/* Moves at most `most` doors and notes them; returns how many. */
static size_t take(struct sync *sync, enum sync_place from, enum sync_place to, int64_t now_us,
	struct sync_door **ret_doors, size_t most)
{
	size_t count = 0, together = 0;
	while (sync->lists[from].first && count < most) {
		struct sync_door *door = sync->lists[from].first;
		together = together ? together : group_size(door, most);
		if (together > most - count && count > 0)
			break;
		together--;
		move(sync, door, to);
		door->with_next = false;
		door->known = true;
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
	item->removed_count = item->door_count = item->cut_count = 0;
	watches_next(&sync->watches, item->sequence, item->snapshot, &item->watches);
	if (sync->in_snapshot) {
		item->door_count =
			take(sync, SYNC_SNAPSHOT, SYNC_TOLD, now_us, item->doors, SYNC_DOORS_MAX);
		item->snapshot_end =
			!sync->lists[SYNC_SNAPSHOT].first && !watches_in_snapshot(&sync->watches);
		sync->in_snapshot = !item->snapshot_end;
		if (!item->snapshot_end || sync->lists[SYNC_LEAVING].first)
			return;
	} else {
		item->removed_count = take(
			sync, SYNC_LEAVING, SYNC_LEFT, now_us, item->removed, SYNC_REMOVED_MAX);
		if (sync->lists[SYNC_LEAVING].first)
			return;
		item->door_count =
			take(sync, SYNC_UNTOLD, SYNC_TOLD, now_us, item->doors, SYNC_DOORS_MAX);
	}
	item->cut_count = take(sync, SYNC_CUT, SYNC_CUT_TOLD, now_us, item->cut, SYNC_CUT_MAX);
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

struct sync_door *sync_pop_cut(struct sync *sync, uint64_t sequence)
{
	struct sync_door *cut = sync->lists[SYNC_CUT_TOLD].first;
	if (!sync->open || !cut || cut->sequence > sequence)
		return NULL;
	move(sync, cut, SYNC_OUT);
	return cut;
}
