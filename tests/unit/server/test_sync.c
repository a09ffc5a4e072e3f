/* What an agent is told, and when it is believed: tables, and random sequences against a simple
 * agent (the desired state and what the agent holds agree when everything was acknowledged; I1, I2,
 * I7). */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/fleet/sync.h"

static struct sync sync_state;
static struct wanted doors[2000];
static struct sync_item item;

static void setup(void)
{
	sync_init(&sync_state, 1000);
	memset(doors, 0, sizeof doors);
}

TestSuite(sync, .init = setup);

Test(sync, nothing_is_told_without_a_stream)
{
	wanted_add(&sync_state.doors, &doors[0]);
	cr_expect_not(sync_has_item(&sync_state));
	cr_expect(wanted_remove(&sync_state.doors, &doors[0]), "nobody knows it: out at once");
	cr_expect_eq(doors[0].place, WANTED_OUT);
}

Test(sync, a_stream_begins_with_a_snapshot_even_of_nothing)
{
	sync_open(&sync_state);
	cr_assert(sync_has_item(&sync_state));
	sync_next(&sync_state, 5, &item);
	cr_expect(item.snapshot && item.snapshot_end);
	cr_expect_eq(item.sequence, 1001);
	cr_expect_eq(item.door_count, 0);
	cr_expect_not(sync_has_item(&sync_state));
}

Test(sync, a_snapshot_comes_in_pieces_and_deltas_wait_for_its_end)
{
	for (size_t i = 0; i < SYNC_DOORS_MAX + 1; i++)
		wanted_add(&sync_state.doors, &doors[i]);
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot && !item.snapshot_end);
	cr_expect_eq(item.door_count, SYNC_DOORS_MAX);
	wanted_add(&sync_state.doors, &doors[1999]);
	cr_expect_not(wanted_remove(&sync_state.doors, &doors[0]), "told already");
	cr_expect(wanted_remove(&sync_state.doors, &doors[SYNC_DOORS_MAX]), "not told yet");
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot && item.snapshot_end);
	cr_expect_eq(item.door_count + item.removed_count, 0);
	sync_next(&sync_state, 0, &item);
	cr_expect_not(item.snapshot);
	cr_expect_eq(item.removed_count, 1);
	cr_expect_eq(item.removed[0], &doors[0]);
	cr_expect_eq(item.door_count, 1);
	cr_expect_eq(item.doors[0], &doors[1999]);
}

Test(sync, acknowledgements_are_of_everything_before)
{
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	for (int i = 0; i < 3; i++) {
		wanted_add(&sync_state.doors, &doors[i]);
		sync_next(&sync_state, 0, &item);
	}
	cr_expect_null(wanted_pop_held(&sync_state.doors, 1001));
	cr_expect_eq(wanted_pop_held(&sync_state.doors, 1003), &doors[0]);
	cr_expect_eq(wanted_pop_held(&sync_state.doors, 1003), &doors[1]);
	cr_expect_null(wanted_pop_held(&sync_state.doors, 1003));
	cr_expect_eq(doors[2].place, WANTED_TOLD);
	cr_expect_not(wanted_remove(&sync_state.doors, &doors[1]));
	sync_next(&sync_state, 0, &item);
	cr_expect_null(wanted_pop_gone(&sync_state.doors, 1004));
	cr_expect_eq(wanted_pop_gone(&sync_state.doors, 1005), &doors[1]);
}

/* A door may follow another of the same key: never told before the other's removal is. */
Test(sync, removals_come_first)
{
	sync_open(&sync_state);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		wanted_add(&sync_state.doors, &doors[i]);
	while (sync_has_item(&sync_state))
		sync_next(&sync_state, 0, &item);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		cr_expect_not(wanted_remove(&sync_state.doors, &doors[i]));
	wanted_add(&sync_state.doors, &doors[1999]);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.removed_count, SYNC_REMOVED_MAX);
	cr_expect_eq(item.door_count, 0);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.removed_count, 1);
	cr_expect_eq(item.door_count, 1);
}

Test(sync, an_end_forgets_what_was_leaving)
{
	sync_open(&sync_state);
	wanted_add(&sync_state.doors, &doors[0]);
	wanted_add(&sync_state.doors, &doors[1]);
	sync_next(&sync_state, 0, &item);
	sync_next(&sync_state, 0, &item);
	wanted_remove(&sync_state.doors, &doors[0]);
	sync_next(&sync_state, 0, &item);
	wanted_remove(&sync_state.doors, &doors[1]);
	sync_close(&sync_state);
	cr_expect_eq(wanted_pop_gone(&sync_state.doors, 0), &doors[0]);
	cr_expect_eq(wanted_pop_gone(&sync_state.doors, 0), &doors[1]);
	cr_expect_null(wanted_pop_gone(&sync_state.doors, 0));
}

/* A renewal: told again, and until then what the agent knows is still what must be removed. */
Test(sync, what_is_told_again_is_not_forgotten)
{
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	wanted_add(&sync_state.doors, &doors[0]);
	wanted_retell(&sync_state.doors, &doors[0]);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, 1);
	cr_expect_eq(wanted_pop_held(&sync_state.doors, item.sequence), &doors[0]);
	cr_expect_not(sync_has_item(&sync_state));
	wanted_retell(&sync_state.doors, &doors[0]);
	cr_expect_null(wanted_pop_held(&sync_state.doors, item.sequence), "of the older item");
	cr_expect_not(wanted_remove(&sync_state.doors, &doors[0]), "the agent knows it");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.removed_count, 1);
	cr_expect_eq(item.door_count, 0);
	cr_expect_eq(wanted_pop_gone(&sync_state.doors, item.sequence), &doors[0]);
	wanted_retell(&sync_state.doors, &doors[0]);
	cr_expect_not(sync_has_item(&sync_state), "what is out is not told");
}

Test(sync, a_refused_door_is_dropped_unless_it_was_told_again)
{
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	wanted_add(&sync_state.doors, &doors[0]);
	cr_expect_not(wanted_drop(&sync_state.doors, &doors[0], 9999), "not told yet");
	sync_next(&sync_state, 0, &item);
	cr_expect_not(
		wanted_drop(&sync_state.doors, &doors[0], item.sequence - 1), "an older item's");
	cr_expect(wanted_drop(&sync_state.doors, &doors[0], item.sequence));
	cr_expect_eq(doors[0].place, WANTED_OUT);
	wanted_add(&sync_state.doors, &doors[0]);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(wanted_pop_held(&sync_state.doors, item.sequence), &doors[0]);
	cr_expect_not(wanted_drop(&sync_state.doors, &doors[0], item.sequence), "it is held");
}

Test(sync, what_belongs_together_travels_together)
{
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	for (size_t i = 0; i < SYNC_DOORS_MAX + 10; i++) {
		wanted_add(&sync_state.doors, &doors[i]);
		doors[i].with_next = i >= SYNC_DOORS_MAX - 10 && i < SYNC_DOORS_MAX + 9;
	}
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, SYNC_DOORS_MAX - 10, "the group does not fit");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, 20);
	/* One that is larger than an item is split: it must not wait for ever. */
	for (size_t i = 0; i < SYNC_DOORS_MAX + 10; i++) {
		wanted_drop(&sync_state.doors, &doors[i], item.sequence);
		wanted_add(&sync_state.doors, &doors[i]);
		doors[i].with_next = true;
	}
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, SYNC_DOORS_MAX);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, 10);
}

Test(sync, a_cut_travels_behind_the_removals_and_with_every_stream)
{
	static struct wanted cut;
	memset(&cut, 0, sizeof cut);
	sync_add_cut(&sync_state, &cut);
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot_end);
	cr_expect_eq(item.cut_count, 1);
	cr_expect_null(sync_pop_cut(&sync_state, item.sequence - 1));
	sync_close(&sync_state);
	while (wanted_pop_gone(&sync_state.doors, 0))
		;
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.cut_count, 1, "not acknowledged: told again");
	cr_expect_eq(sync_pop_cut(&sync_state, item.sequence), &cut);
	cr_expect_eq(cut.place, WANTED_OUT);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		wanted_add(&sync_state.doors, &doors[i]);
	while (sync_has_item(&sync_state))
		sync_next(&sync_state, 0, &item);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		wanted_remove(&sync_state.doors, &doors[i]);
	sync_add_cut(&sync_state, &cut);
	sync_add_cut(&sync_state, &cut);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.cut_count, 0, "a removal is still missing");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.removed_count, 1);
	cr_expect_eq(item.cut_count, 1);
}

/* ---- against a model ---- */

enum { COUNT = 60 };

/* What the agent of the model knows of one kind of thing. */
struct kind {
	struct wanted_list *list;
	struct wanted wanted[COUNT];
	bool wants[COUNT], held[COUNT], building[COUNT];
};

/* The agent: doors and primary connections, items in flight, a process that may vanish. */
struct model {
	struct kind doors, primaries;
	bool open;
	uint64_t received; /* newest item */
};

static size_t number(const struct kind *kind, const struct wanted *wanted)
{
	return (size_t)(wanted - kind->wanted);
}

static void receive_kind(struct kind *kind, struct wanted *const *added, size_t added_count,
	struct wanted *const *removed, size_t removed_count)
{
	if (item.snapshot)
		cr_assert_eq(removed_count, 0);
	for (size_t i = 0; i < removed_count; i++)
		kind->held[number(kind, removed[i])] = false;
	for (size_t i = 0; i < added_count; i++)
		(item.snapshot ? kind->building : kind->held)[number(kind, added[i])] = true;
	if (item.snapshot_end) {
		memcpy(kind->held, kind->building, sizeof kind->held);
		memset(kind->building, 0, sizeof kind->building);
	}
}

static void receive(struct model *model)
{
	sync_next(&sync_state, 0, &item);
	cr_assert_gt(item.sequence, model->received);
	model->received = item.sequence;
	receive_kind(&model->doors, item.doors, item.door_count, item.removed, item.removed_count);
	receive_kind(&model->primaries, item.primaries, item.primary_count, item.primaries_removed,
		item.primaries_removed_count);
}

static void acknowledge(struct kind *kind, uint64_t sequence)
{
	struct wanted *wanted;
	while ((wanted = wanted_pop_held(kind->list, sequence)))
		cr_assert(kind->held[number(kind, wanted)] || kind->building[number(kind, wanted)],
			"held, says the server, but the agent does not have it");
	while ((wanted = wanted_pop_gone(kind->list, sequence)))
		cr_assert_not(kind->held[number(kind, wanted)]);
}

static void acknowledge_all(struct model *model, uint64_t sequence)
{
	acknowledge(&model->doors, sequence);
	acknowledge(&model->primaries, sequence);
}

static void close_kind(struct kind *kind)
{
	while (wanted_pop_gone(kind->list, 0))
		;
	memset(kind->building, 0, sizeof kind->building);
}

static void close_stream(struct model *model)
{
	sync_close(&sync_state);
	close_kind(&model->doors);
	close_kind(&model->primaries);
	model->open = false;
}

static void change(struct kind *kind, size_t i)
{
	if (kind->wanted[i].place == WANTED_OUT) {
		wanted_add(kind->list, &kind->wanted[i]);
		kind->wants[i] = true;
	} else if (kind->wants[i]) {
		wanted_remove(kind->list, &kind->wanted[i]);
		kind->wants[i] = false;
	}
}

static void step(struct model *model, unsigned *seed)
{
	struct kind *kind = rand_r(seed) % 2 ? &model->doors : &model->primaries;
	size_t i = (size_t)rand_r(seed) % COUNT;
	switch (rand_r(seed) % 9) {
	case 0:
	case 1:
	case 2:
		change(kind, i);
		return;
	case 3:
	case 4:
		if (sync_has_item(&sync_state))
			receive(model);
		return;
	case 5:
		if (model->open)
			acknowledge_all(model, model->received - (uint64_t)(rand_r(seed) % 3));
		return;
	case 6:
		if (kind->wants[i])
			wanted_retell(kind->list, &kind->wanted[i]);
		return;
	case 7:
		if (!model->open)
			sync_open(&sync_state);
		model->open = true;
		return;
	default:
		if (model->open && rand_r(seed) % 4 == 0)
			close_stream(model);
	}
}

static void expect_agreement(const struct kind *kind, unsigned run)
{
	for (size_t i = 0; i < COUNT; i++) {
		cr_assert_eq(kind->held[i], kind->wants[i], "run %u, %zu", run, i);
		cr_assert_eq(kind->wanted[i].place, kind->wants[i] ? WANTED_HELD : WANTED_OUT);
	}
}

Test(sync, any_sequence_ends_in_agreement)
{
	static struct model model;
	for (unsigned run = 1; run <= 600; run++) {
		unsigned seed = run;
		setup();
		memset(&model, 0, sizeof model);
		model.doors.list = &sync_state.doors;
		model.primaries.list = &sync_state.primaries;
		for (int i = 0; i < 800; i++)
			step(&model, &seed);
		if (!model.open)
			sync_open(&sync_state);
		while (sync_has_item(&sync_state))
			receive(&model);
		acknowledge_all(&model, model.received);
		expect_agreement(&model.doors, run);
		expect_agreement(&model.primaries, run);
	}
}
