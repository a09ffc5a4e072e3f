#include "server/fleet/watch.h"

#include <assert.h>

static void move(struct watches *watches, struct watch *watch, enum watch_place to)
{
	if (watch->place != WATCH_OUT) {
		*(watch->previous ? &watch->previous->next : &watches->lists[watch->place].first) =
			watch->next;
		*(watch->next ? &watch->next->previous : &watches->lists[watch->place].last) =
			watch->previous;
	}
	watch->next = watch->previous = NULL;
	watch->place = to;
	if (to == WATCH_OUT)
		return;
	watch->previous = watches->lists[to].last;
	*(watch->previous ? &watch->previous->next : &watches->lists[to].first) = watch;
	watches->lists[to].last = watch;
}

void watches_add(struct watches *watches, struct watch *watch)
{
	assert(watch->place == WATCH_OUT);
	move(watches, watch, WATCH_UNTOLD);
}

bool watches_remove(struct watches *watches, struct watch *watch)
{
	switch (watch->place) {
	case WATCH_OUT:
		return true;
	case WATCH_SNAPSHOT:
	case WATCH_UNTOLD:
		break;
	case WATCH_TOLD:
	case WATCH_HELD:
		if (!watches->open)
			break;
		move(watches, watch, WATCH_LEAVING);
		return false;
	case WATCH_LEAVING:
	case WATCH_LEFT:
	case WATCH_PLACES:
		return false;
	}
	move(watches, watch, WATCH_OUT);
	return true;
}

static void move_all(struct watches *watches, enum watch_place from, enum watch_place to)
{
	while (watches->lists[from].first)
		move(watches, watches->lists[from].first, to);
}

void watches_open(struct watches *watches)
{
	assert(!watches->lists[WATCH_LEAVING].first && !watches->lists[WATCH_LEFT].first);
	move_all(watches, WATCH_HELD, WATCH_SNAPSHOT);
	move_all(watches, WATCH_TOLD, WATCH_SNAPSHOT);
	move_all(watches, WATCH_UNTOLD, WATCH_SNAPSHOT);
	watches->open = true;
}

void watches_close(struct watches *watches)
{
	watches->open = false;
}

bool watches_wait(const struct watches *watches)
{
	return watches->lists[WATCH_UNTOLD].first || watches->lists[WATCH_LEAVING].first;
}

bool watches_in_snapshot(const struct watches *watches)
{
	return watches->lists[WATCH_SNAPSHOT].first != NULL;
}

static size_t take(struct watches *watches, enum watch_place from, enum watch_place to,
	uint64_t sequence, struct watch **ret_watches, size_t most)
{
	size_t count = 0;
	while (watches->lists[from].first && count < most) {
		struct watch *watch = watches->lists[from].first;
		move(watches, watch, to);
		watch->sequence = sequence;
		ret_watches[count++] = watch;
	}
	return count;
}

void watches_next(
	struct watches *watches, uint64_t sequence, bool snapshot, struct watch_item *ret_item)
{
	struct watch_item *item = ret_item;
	item->removed_count = 0;
	item->added_count = take(watches, snapshot ? WATCH_SNAPSHOT : WATCH_UNTOLD, WATCH_TOLD,
		sequence, item->added, WATCHES_MAX);
	if (!snapshot)
		item->removed_count = take(watches, WATCH_LEAVING, WATCH_LEFT, sequence,
			item->removed, WATCHES_REMOVED_MAX);
}

struct watch *watches_pop_held(struct watches *watches, uint64_t sequence)
{
	struct watch *watch = watches->lists[WATCH_TOLD].first;
	if (!watch || watch->sequence > sequence)
		return NULL;
	move(watches, watch, WATCH_HELD);
	return watch;
}

struct watch *watches_pop_gone(struct watches *watches, uint64_t sequence)
{
	struct watch *watch = watches->lists[WATCH_LEFT].first;
	if (!watches->open && !watch)
		watch = watches->lists[WATCH_LEAVING].first;
	if (!watch || (watches->open && watch->sequence > sequence))
		return NULL;
	move(watches, watch, WATCH_OUT);
	return watch;
}
