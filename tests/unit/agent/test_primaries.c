/* Primary connections: each one's end is told once, and never missed. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/primaries.h"

#define ENTRIES 16

/* A conntrack of the simplest kind: entry n has client port n and id 100 + n. */
static struct {
	bool is_there, is_marked, is_over;
	uint64_t id;
} entries[ENTRIES];
static int ended[ENTRIES]; /* by session */
static int marks, reads;
static bool memory_is_out, ends_while_marked;
static struct primaries primaries;

static struct tracked entry(uint16_t n)
{
	struct tracked entry = {.id = entries[n].id,
		.transport = IPPROTO_TCP,
		.is_primary = entries[n].is_marked,
		.is_over = entries[n].is_over};
	entry.client = (struct endpoint){{ADDR_IPV4, {10, 0, 0, 1}}, n};
	entry.remote = (struct endpoint){{ADDR_IPV4, {10, 0, 0, 2}}, 21};
	return entry;
}

static bool on_find(void *arg, const struct tracked *wanted, struct tracked *ret_entry)
{
	(void)arg;
	if (!entries[wanted->client.port].is_there)
		return false;
	*ret_entry = entry(wanted->client.port);
	return true;
}

static void on_mark(void *arg, const struct tracked *tracked, bool set)
{
	(void)arg;
	marks++;
	entries[tracked->client.port].is_marked = set;
	if (ends_while_marked)
		entries[tracked->client.port].is_there = false;
}

static bool on_read(void *arg, struct tracked *tracked)
{
	uint16_t n = tracked->client.port;
	(void)arg;
	reads++;
	if (!entries[n].is_there || entries[n].id != tracked->id)
		return false;
	*tracked = entry(n);
	return true;
}

static bool on_ended(void *arg, const struct id *session)
{
	(void)arg;
	if (!memory_is_out)
		ended[session->bytes[0]]++;
	return !memory_is_out;
}

static const struct primary_hooks hooks = {on_find, on_mark, on_read, on_ended};

static void setup(void)
{
	memset(entries, 0, sizeof entries);
	memset(ended, 0, sizeof ended);
	marks = reads = 0;
	memory_is_out = ends_while_marked = false;
	for (uint16_t n = 0; n < ENTRIES; n++)
		entries[n].id = 100U + n;
	primaries_init(&primaries, &hooks, NULL);
}

static void teardown(void)
{
	primaries_fini(&primaries);
}

TestSuite(primaries, .init = setup, .fini = teardown);

static struct id session(uint8_t n)
{
	return (struct id){{n}};
}

static bool put(uint8_t of, uint16_t n)
{
	struct id id = session(of);
	struct tracked wanted = entry(n);
	wanted.id = 0;
	return primaries_put(&primaries, &id, &wanted);
}

static void drop(uint8_t of)
{
	struct id id = session(of);
	primaries_remove(&primaries, &id);
}

static void event(enum track_event kind, uint16_t n)
{
	struct tracked tracked = entry(n);
	primaries_event(&primaries, kind, &tracked);
}

Test(primaries, one_that_is_there_is_marked_and_followed)
{
	entries[3].is_there = true;
	cr_assert(put(1, 3));
	cr_assert(entries[3].is_marked);
	cr_assert_eq(ended[1], 0);
	event(TRACK_UPDATE, 3);
	cr_assert_eq(ended[1], 0);
	event(TRACK_DESTROY, 3);
	event(TRACK_DESTROY, 3);
	cr_assert_eq(ended[1], 1, "once");
	cr_assert_eq(primaries_count(&primaries), 0);
}

Test(primaries, one_that_is_not_there_has_ended_before_put_returns)
{
	cr_assert(put(1, 3));
	cr_assert_eq(ended[1], 1);
	entries[4].is_there = entries[4].is_over = true;
	cr_assert(put(2, 4));
	cr_assert_eq(ended[2], 1, "TCP's end is the end, though conntrack keeps the entry");
	cr_assert_eq(primaries_count(&primaries), 0);
}

Test(primaries, one_that_ends_while_it_is_marked_is_not_missed)
{
	entries[3].is_there = ends_while_marked = true;
	cr_assert(put(1, 3));
	cr_assert_eq(ended[1], 1);
}

Test(primaries, tcp_ends_it_before_conntrack_forgets_it)
{
	entries[3].is_there = true;
	put(1, 3);
	entries[3].is_over = true;
	event(TRACK_UPDATE, 3);
	cr_assert_eq(ended[1], 1);
	event(TRACK_DESTROY, 3);
	cr_assert_eq(ended[1], 1);
}

Test(primaries, other_entries_are_nobodys_end)
{
	struct tracked other;
	entries[3].is_there = true;
	put(1, 3);
	other = entry(3);
	other.id++; /* a younger connection with the same tuple */
	primaries_event(&primaries, TRACK_DESTROY, &other);
	other = entry(3);
	other.is_primary = false;
	primaries_event(&primaries, TRACK_DESTROY, &other);
	event(TRACK_DESTROY, 4);
	cr_assert_eq(ended[1], 0);
}

Test(primaries, two_sessions_may_share_one)
{
	entries[3].is_there = true;
	put(1, 3);
	put(2, 3);
	put(3, 3);
	drop(2);
	cr_assert(entries[3].is_marked, "others follow it");
	event(TRACK_DESTROY, 3);
	cr_assert_eq(ended[1], 1);
	cr_assert_eq(ended[2], 0, "it was removed");
	cr_assert_eq(ended[3], 1);
}

Test(primaries, a_removed_one_loses_its_mark)
{
	entries[3].is_there = true;
	put(1, 3);
	drop(1);
	drop(1);
	cr_assert_not(entries[3].is_marked);
	event(TRACK_DESTROY, 3);
	cr_assert_eq(ended[1], 0);
}

Test(primaries, a_snapshot_tells_of_all)
{
	entries[3].is_there = entries[4].is_there = true;
	put(1, 3);
	put(2, 4);
	marks = 0;
	primaries_snapshot_begin(&primaries);
	put(2, 4);
	cr_assert_eq(primaries_count(&primaries), 2, "nothing changes before its end");
	primaries_snapshot_end(&primaries);
	cr_assert_eq(primaries_count(&primaries), 1);
	cr_assert_not(entries[3].is_marked);
	cr_assert(entries[4].is_marked);
	cr_assert_eq(marks, 1, "what is known is left alone");
	cr_assert_eq(ended[1] + ended[2], 0);
}

Test(primaries, checks_find_what_events_did_not_tell)
{
	entries[3].is_there = entries[4].is_there = entries[5].is_there = true;
	put(1, 3);
	put(2, 4);
	put(3, 5);
	entries[3].is_there = false;
	entries[4].id++; /* ended, and the tuple is in use again */
	entries[5].is_marked = false; /* another program's hand */
	cr_assert(primaries_check(&primaries, SIZE_MAX));
	cr_assert_eq(ended[1], 1);
	cr_assert_eq(ended[2], 1);
	cr_assert_eq(ended[3], 0);
	cr_assert(entries[5].is_marked, "marked again");
}

Test(primaries, checks_go_round)
{
	for (uint8_t n = 1; n <= 5; n++) {
		entries[n].is_there = true;
		put(n, n);
	}
	for (uint8_t n = 1; n <= 5; n++)
		entries[n].is_there = false;
	reads = 0;
	for (int i = 1; i <= 3; i++) {
		cr_assert(primaries_check(&primaries, 2));
		cr_assert_eq(reads, i < 3 ? 2 * i : 5);
	}
	for (uint8_t n = 1; n <= 5; n++)
		cr_assert_eq(ended[n], 1);
}

Test(primaries, what_cannot_be_told_is_told_later)
{
	entries[3].is_there = true;
	put(1, 3);
	put(2, 3);
	memory_is_out = true;
	cr_assert_not(put(4, 9), "not there, and that cannot be told");
	entries[3].is_there = false;
	event(TRACK_DESTROY, 3);
	cr_assert_not(primaries_check(&primaries, SIZE_MAX));
	cr_assert_eq(ended[1] + ended[2] + ended[4], 0);
	memory_is_out = false;
	cr_assert(primaries_check(&primaries, SIZE_MAX));
	cr_assert_eq(ended[1], 1);
	cr_assert_eq(ended[2], 1);
	cr_assert_eq(primaries_count(&primaries), 0);
}

/* Random lives; a third of the events is lost, now and then all are checked. At the end every
 * session whose connection ended has heard so once, and no other has. */
Test(primaries, model)
{
	for (unsigned seed = 1; seed <= 200; seed++) {
		bool is_open[ENTRIES] = {false}, has_ended[ENTRIES] = {false};
		teardown();
		setup();
		srandom(seed);
		for (int step = 0; step < 200; step++) {
			uint8_t n = (uint8_t)(random() % ENTRIES);
			if (!is_open[n] && !has_ended[n]) {
				is_open[n] = entries[n].is_there = random() % 4 != 0;
				has_ended[n] = !is_open[n];
				put(n, n);
			} else if (is_open[n] && random() % 3 == 0) {
				is_open[n] = entries[n].is_there = false;
				has_ended[n] = true;
				if (random() % 3)
					event(TRACK_DESTROY, n);
			}
			if (random() % 20 == 0)
				primaries_check(&primaries, SIZE_MAX);
		}
		primaries_check(&primaries, SIZE_MAX);
		for (int n = 0; n < ENTRIES; n++)
			cr_assert_eq(ended[n], has_ended[n], "seed %u session %d", seed, n);
	}
}
