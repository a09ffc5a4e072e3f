#include "server/fleet/wanted.h"

#include <assert.h>

static void unlink_wanted(struct wanted_list *list, struct wanted *wanted)
{
	*(wanted->previous ? &wanted->previous->next : &list->places[wanted->place].first) =
		wanted->next;
	*(wanted->next ? &wanted->next->previous : &list->places[wanted->place].last) =
		wanted->previous;
	wanted->next = wanted->previous = NULL;
}

static void move(struct wanted_list *list, struct wanted *wanted, enum wanted_place to)
{
	if (wanted->place != WANTED_OUT)
		unlink_wanted(list, wanted);
	wanted->place = to;
	if (to == WANTED_OUT) {
		wanted->known = wanted->with_next = false;
		return;
	}
	wanted->previous = list->places[to].last;
	*(wanted->previous ? &wanted->previous->next : &list->places[to].first) = wanted;
	list->places[to].last = wanted;
}

void wanted_add(struct wanted_list *list, struct wanted *wanted)
{
	assert(wanted->place == WANTED_OUT);
	move(list, wanted, WANTED_UNTOLD);
}

bool wanted_remove(struct wanted_list *list, struct wanted *wanted)
{
	switch (wanted->place) {
	case WANTED_OUT:
		return true;
	case WANTED_SNAPSHOT:
		break;
	case WANTED_UNTOLD:
	case WANTED_TOLD:
	case WANTED_HELD:
		if (!list->open || !wanted->known)
			break;
		move(list, wanted, WANTED_LEAVING);
		return false;
	case WANTED_LEAVING:
	case WANTED_LEFT:
	case WANTED_PLACES:
		return false;
	}
	move(list, wanted, WANTED_OUT);
	return true;
}

void wanted_retell(struct wanted_list *list, struct wanted *wanted)
{
	if (wanted->place == WANTED_TOLD || wanted->place == WANTED_HELD)
		move(list, wanted, WANTED_UNTOLD);
}

bool wanted_drop(struct wanted_list *list, struct wanted *wanted, uint64_t sequence)
{
	if (wanted->place != WANTED_TOLD || wanted->sequence > sequence)
		return false;
	move(list, wanted, WANTED_OUT);
	return true;
}

static void move_all(struct wanted_list *list, enum wanted_place from, enum wanted_place to)
{
	while (list->places[from].first)
		move(list, list->places[from].first, to);
}

void wanted_open(struct wanted_list *list)
{
	assert(!list->places[WANTED_LEAVING].first && !list->places[WANTED_LEFT].first);
	move_all(list, WANTED_HELD, WANTED_SNAPSHOT);
	move_all(list, WANTED_TOLD, WANTED_SNAPSHOT);
	move_all(list, WANTED_UNTOLD, WANTED_SNAPSHOT);
	for (struct wanted *wanted = list->places[WANTED_SNAPSHOT].first; wanted;
		wanted = wanted->next)
		wanted->known = wanted->with_next = false;
	list->open = true;
}

void wanted_close(struct wanted_list *list)
{
	list->open = false;
}

bool wanted_is_empty(const struct wanted_list *list, enum wanted_place place)
{
	return !list->places[place].first;
}

/* How many travel together, this one first; at most `most`. */
static size_t group_size(const struct wanted *wanted, size_t most)
{
	size_t size = 1;
	for (; wanted->with_next && wanted->next && size < most; wanted = wanted->next)
		size++;
	return size;
}

size_t wanted_take(struct wanted_list *list, enum wanted_place from, const struct wanted_item *item,
	struct wanted **ret_wanted, size_t most)
{
	size_t count = 0, together = 0;
	while (list->places[from].first && count < most) {
		struct wanted *wanted = list->places[from].first;
		together = together ? together : group_size(wanted, most);
		if (together > most - count && count > 0)
			break;
		together--;
		move(list, wanted, from == WANTED_LEAVING ? WANTED_LEFT : WANTED_TOLD);
		wanted->with_next = false;
		wanted->known = true;
		wanted->sequence = item->sequence;
		wanted->told_us = item->now_us;
		ret_wanted[count++] = wanted;
	}
	return count;
}

struct wanted *wanted_pop_held(struct wanted_list *list, uint64_t sequence)
{
	struct wanted *wanted = list->places[WANTED_TOLD].first;
	if (!wanted || wanted->sequence > sequence)
		return NULL;
	move(list, wanted, WANTED_HELD);
	return wanted;
}

struct wanted *wanted_pop_gone(struct wanted_list *list, uint64_t sequence)
{
	struct wanted *wanted = list->places[WANTED_LEFT].first;
	if (!list->open && !wanted)
		wanted = list->places[WANTED_LEAVING].first;
	if (!wanted || (list->open && wanted->sequence > sequence))
		return NULL;
	move(list, wanted, WANTED_OUT);
	return wanted;
}
