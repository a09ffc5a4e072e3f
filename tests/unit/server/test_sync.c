/* What an agent is told, and when it is believed: tables, and random sequences against a simple
 * agent (the desired state and what the agent holds agree when everything was acknowledged; I1, I2,
 * I7). */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/fleet/sync.h"

static struct sync sync_state;
static struct sync_door doors[2000];
static struct sync_item item;

static void setup(void)
{
	sync_init(&sync_state, 1000);
	memset(doors, 0, sizeof doors);
}

TestSuite(sync, .init = setup);

Test(sync, nothing_is_told_without_a_stream)
{
	sync_add(&sync_state, &doors[0]);
	cr_expect_not(sync_has_item(&sync_state));
	cr_expect(sync_remove(&sync_state, &doors[0]), "nobody knows it: out at once");
	cr_expect_eq(doors[0].place, SYNC_OUT);
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
		sync_add(&sync_state, &doors[i]);
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot && !item.snapshot_end);
	cr_expect_eq(item.door_count, SYNC_DOORS_MAX);
	sync_add(&sync_state, &doors[1999]);
	cr_expect_not(sync_remove(&sync_state, &doors[0]), "told already");
	cr_expect(sync_remove(&sync_state, &doors[SYNC_DOORS_MAX]), "not told yet");
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
		sync_add(&sync_state, &doors[i]);
		sync_next(&sync_state, 0, &item);
	}
	cr_expect_null(sync_pop_held(&sync_state, 1001));
	cr_expect_eq(sync_pop_held(&sync_state, 1003), &doors[0]);
	cr_expect_eq(sync_pop_held(&sync_state, 1003), &doors[1]);
	cr_expect_null(sync_pop_held(&sync_state, 1003));
	cr_expect_eq(doors[2].place, SYNC_TOLD);
	cr_expect_not(sync_remove(&sync_state, &doors[1]));
	sync_next(&sync_state, 0, &item);
	cr_expect_null(sync_pop_gone(&sync_state, 1004));
	cr_expect_eq(sync_pop_gone(&sync_state, 1005), &doors[1]);
}

/* A door may follow another of the same key: never told before the other's removal is. */
Test(sync, removals_come_first)
{
	sync_open(&sync_state);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		sync_add(&sync_state, &doors[i]);
	while (sync_has_item(&sync_state))
		sync_next(&sync_state, 0, &item);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		cr_expect_not(sync_remove(&sync_state, &doors[i]));
	sync_add(&sync_state, &doors[1999]);
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
	sync_add(&sync_state, &doors[0]);
	sync_add(&sync_state, &doors[1]);
	sync_next(&sync_state, 0, &item);
	sync_next(&sync_state, 0, &item);
	sync_remove(&sync_state, &doors[0]);
	sync_next(&sync_state, 0, &item);
	sync_remove(&sync_state, &doors[1]);
	sync_close(&sync_state);
	cr_expect_eq(sync_pop_gone(&sync_state, 0), &doors[0]);
	cr_expect_eq(sync_pop_gone(&sync_state, 0), &doors[1]);
	cr_expect_null(sync_pop_gone(&sync_state, 0));
}

/* A renewal: told again, and until then what the agent knows is still what must be removed. */
Test(sync, what_is_told_again_is_not_forgotten)
{
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	sync_add(&sync_state, &doors[0]);
	sync_retell(&sync_state, &doors[0]);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, 1);
	cr_expect_eq(sync_pop_held(&sync_state, item.sequence), &doors[0]);
	cr_expect_not(sync_has_item(&sync_state));
	sync_retell(&sync_state, &doors[0]);
	cr_expect_null(sync_pop_held(&sync_state, item.sequence), "of the older item");
	cr_expect_not(sync_remove(&sync_state, &doors[0]), "the agent knows it");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.removed_count, 1);
	cr_expect_eq(item.door_count, 0);
	cr_expect_eq(sync_pop_gone(&sync_state, item.sequence), &doors[0]);
	sync_retell(&sync_state, &doors[0]);
	cr_expect_not(sync_has_item(&sync_state), "what is out is not told");
}

Test(sync, a_refused_door_is_dropped_unless_it_was_told_again)
{
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	sync_add(&sync_state, &doors[0]);
	cr_expect_not(sync_drop(&sync_state, &doors[0], 9999), "not told yet");
	sync_next(&sync_state, 0, &item);
	cr_expect_not(sync_drop(&sync_state, &doors[0], item.sequence - 1), "an older item's");
	cr_expect(sync_drop(&sync_state, &doors[0], item.sequence));
	cr_expect_eq(doors[0].place, SYNC_OUT);
	sync_add(&sync_state, &doors[0]);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(sync_pop_held(&sync_state, item.sequence), &doors[0]);
	cr_expect_not(sync_drop(&sync_state, &doors[0], item.sequence), "it is held");
}

Test(sync, what_belongs_together_travels_together)
{
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	for (size_t i = 0; i < SYNC_DOORS_MAX + 10; i++) {
		sync_add(&sync_state, &doors[i]);
		doors[i].with_next = i >= SYNC_DOORS_MAX - 10 && i < SYNC_DOORS_MAX + 9;
	}
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, SYNC_DOORS_MAX - 10, "the group does not fit");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, 20);
	/* One that is larger than an item is split: it must not wait for ever. */
	for (size_t i = 0; i < SYNC_DOORS_MAX + 10; i++) {
		sync_drop(&sync_state, &doors[i], item.sequence);
		sync_add(&sync_state, &doors[i]);
		doors[i].with_next = true;
	}
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, SYNC_DOORS_MAX);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.door_count, 10);
}

Test(sync, a_cut_travels_behind_the_removals_and_with_every_stream)
{
	static struct sync_door cut;
	memset(&cut, 0, sizeof cut);
	sync_add_cut(&sync_state, &cut);
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot_end);
	cr_expect_eq(item.cut_count, 1);
	cr_expect_null(sync_pop_cut(&sync_state, item.sequence - 1));
	sync_close(&sync_state);
	while (sync_pop_gone(&sync_state, 0))
		;
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.cut_count, 1, "not acknowledged: told again");
	cr_expect_eq(sync_pop_cut(&sync_state, item.sequence), &cut);
	cr_expect_eq(cut.place, SYNC_OUT);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		sync_add(&sync_state, &doors[i]);
	while (sync_has_item(&sync_state))
		sync_next(&sync_state, 0, &item);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		sync_remove(&sync_state, &doors[i]);
	sync_add_cut(&sync_state, &cut);
	sync_add_cut(&sync_state, &cut);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.cut_count, 0, "a removal is still missing");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.removed_count, 1);
	cr_expect_eq(item.cut_count, 1);
}

/* ---- against a model ---- */

enum { DOORS = 60 };

/* The agent of the model: a set of doors, items in flight, a process that may vanish. */
struct model {
	bool wanted[DOORS], held[DOORS], building[DOORS];
	bool open;
	uint64_t received; /* newest item */
};

static size_t number(const struct sync_door *door)
{
	return (size_t)(door - doors);
}

static void receive(struct model *model)
{
	sync_next(&sync_state, 0, &item);
	cr_assert_gt(item.sequence, model->received);
	model->received = item.sequence;
	if (item.snapshot)
		cr_assert_eq(item.removed_count, 0);
	for (size_t i = 0; i < item.removed_count; i++)
		model->held[number(item.removed[i])] = false;
	for (size_t i = 0; i < item.door_count; i++)
		(item.snapshot ? model->building : model->held)[number(item.doors[i])] = true;
	if (item.snapshot_end) {
		memcpy(model->held, model->building, sizeof model->held);
		memset(model->building, 0, sizeof model->building);
	}
}

static void acknowledge(struct model *model, uint64_t sequence)
{
	struct sync_door *door;
	while ((door = sync_pop_held(&sync_state, sequence)))
		cr_assert(model->held[number(door)] || model->building[number(door)],
			"held, says the server, but the agent does not have it");
	while ((door = sync_pop_gone(&sync_state, sequence)))
		cr_assert_not(model->held[number(door)]);
}

static void close_stream(struct model *model)
{
	sync_close(&sync_state);
	while (sync_pop_gone(&sync_state, 0))
		;
	model->open = false;
	memset(model->building, 0, sizeof model->building);
}

static void step(struct model *model, unsigned *seed)
{
	size_t i = (size_t)rand_r(seed) % DOORS;
	switch (rand_r(seed) % 9) {
	case 0:
	case 1:
	case 2:
		if (doors[i].place == SYNC_OUT) {
			sync_add(&sync_state, &doors[i]);
			model->wanted[i] = true;
		} else if (model->wanted[i]) {
			sync_remove(&sync_state, &doors[i]);
			model->wanted[i] = false;
		}
		return;
	case 3:
	case 4:
		if (sync_has_item(&sync_state))
			receive(model);
		return;
	case 5:
		if (model->open)
			acknowledge(model, model->received - (uint64_t)(rand_r(seed) % 3));
		return;
	case 6:
		if (model->wanted[i])
			sync_retell(&sync_state, &doors[i]);
		return;
	case 7:
		if (!model->open) {
			sync_open(&sync_state);
			model->open = true;
		}
		return;
	default:
		if (model->open && rand_r(seed) % 4 == 0)
			close_stream(model);
	}
}

Test(sync, any_sequence_ends_in_agreement)
{
	for (unsigned run = 1; run <= 300; run++) {
		struct model model = {0};
		unsigned seed = run;
		setup();
		for (int i = 0; i < 400; i++)
			step(&model, &seed);
		if (!model.open)
			sync_open(&sync_state);
		while (sync_has_item(&sync_state))
			receive(&model);
		acknowledge(&model, model.received);
		for (size_t i = 0; i < DOORS; i++) {
			cr_assert_eq(model.held[i], model.wanted[i], "run %u, door %zu", run, i);
			cr_assert_eq(doors[i].place, model.wanted[i] ? SYNC_HELD : SYNC_OUT);
		}
	}
}
