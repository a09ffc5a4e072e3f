/* External ports: one owner each, free ones found, busy ones passed over for a while. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/grants/external.h"

#define FIRST 30000
#define COUNT 100

static struct externals externals;
static struct external_place places[COUNT + 1];

static struct endpoint at(const char *text, uint16_t port)
{
	struct endpoint endpoint = {.port = port};
	cr_assert(addr_parse(text, &endpoint.addr));
	return endpoint;
}

static struct endpoint one(uint16_t port)
{
	return at("10.77.2.101", port);
}

static uint16_t choose(int64_t now_us)
{
	struct endpoint endpoint = one(0);
	return external_choose(&externals, &endpoint.addr, 6, now_us);
}

static void claim(struct external_place *place, uint16_t port)
{
	struct endpoint endpoint = one(port);
	cr_assert(external_claim(&externals, &endpoint, 6, place));
}

static void setup(void)
{
	memset(places, 0, sizeof places);
	externals_init(&externals);
	externals_set_range(&externals, FIRST, FIRST + COUNT - 1);
}

static void teardown(void)
{
	for (int i = 0; i <= COUNT; i++)
		external_release(&externals, &places[i]);
	cr_expect_eq(table_count(&externals.held), 0);
	externals_fini(&externals);
}

TestSuite(external, .init = setup, .fini = teardown);

Test(external, a_port_has_one_owner_by_address_port_and_transport)
{
	struct endpoint first = one(2000), other = at("10.77.2.102", 2000),
			v6 = at("fd77::1", 2000), next = one(2001);
	claim(&places[0], 2000);
	cr_expect_eq(external_holder(&externals, &first, 6), &places[0]);
	cr_expect_null(external_holder(&externals, &first, 17));
	cr_expect_null(external_holder(&externals, &other, 6));
	cr_expect_null(external_holder(&externals, &v6, 6));
	cr_expect_null(external_holder(&externals, &next, 6));
	external_release(&externals, &places[0]);
	cr_expect_null(external_holder(&externals, &first, 6));
	external_release(&externals, &places[0]);
	claim(&places[1], 2000);
}

Test(external, every_port_of_the_range_is_found_and_none_twice)
{
	bool seen[COUNT] = {false};
	for (int i = 0; i < COUNT; i++) {
		uint16_t port = choose(0);
		cr_assert(port >= FIRST && port < FIRST + COUNT, "%u", port);
		cr_assert_not(seen[port - FIRST]);
		seen[port - FIRST] = true;
		claim(&places[i], port);
	}
	cr_expect_eq(choose(0), 0, "all are taken");
	cr_expect_eq(choose(0), 0, "and still are");
	struct endpoint other = at("10.77.2.102", 0);
	cr_expect_neq(external_choose(&externals, &other.addr, 6, 0), 0, "of this address");
	other = one(0);
	cr_expect_neq(external_choose(&externals, &other.addr, 17, 0), 0, "for UDP");
	cr_expect_eq(choose(0), 0);
	external_release(&externals, &places[42]);
	cr_expect_neq(choose(0), 0);
}

Test(external, without_a_range_there_is_none)
{
	static const uint32_t bad[][2] = {{0, 0}, {0, 10}, {10, 9}, {10, 65536}, {70000, 70001}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		externals_set_range(&externals, bad[i][0], bad[i][1]);
		cr_expect_eq(choose(0), 0, "%u to %u", bad[i][0], bad[i][1]);
	}
	externals_set_range(&externals, 65535, 65535);
	cr_expect_eq(choose(0), 65535);
}

Test(external, a_busy_port_is_passed_over_for_a_while)
{
	struct endpoint busy = one(FIRST);
	externals_set_range(&externals, FIRST, FIRST);
	external_is_busy(&externals, &busy, 6, 1000);
	external_is_busy(&externals, &busy, 6, 1000);
	cr_expect_eq(choose(1000), 0);
	cr_expect_eq(choose(1000 + EXTERNAL_BUSY_US - 1), 0);
	cr_expect_eq(choose(1000 + EXTERNAL_BUSY_US), FIRST);
	cr_expect_eq(externals.busy_count, 0);
}

Test(external, what_it_remembers_is_bounded)
{
	for (uint32_t i = 0; i < EXTERNAL_BUSY_MAX + 100; i++) {
		struct endpoint busy = one((uint16_t)(1 + i));
		external_is_busy(&externals, &busy, 6, 0);
	}
	cr_expect_eq(externals.busy_count, EXTERNAL_BUSY_MAX);
	externals_set_range(&externals, 1, 1);
	cr_expect_eq(choose(0), 1, "the oldest was forgotten");
}

/* Against a model: claims, releases and choices at random. */
Test(external, any_sequence_agrees_with_a_set)
{
	unsigned seed = 3;
	int owner[COUNT];
	memset(owner, -1, sizeof owner);
	for (int step = 0; step < 20000; step++) {
		int i = rand_r(&seed) % COUNT;
		if (places[i].held) {
			owner[places[i].endpoint.port - FIRST] = -1;
			external_release(&externals, &places[i]);
			continue;
		}
		uint16_t port = choose(0);
		cr_assert_neq(port, 0, "one is free: this one's");
		cr_assert_eq(owner[port - FIRST], -1);
		owner[port - FIRST] = i;
		claim(&places[i], port);
		struct endpoint endpoint = one(port);
		cr_assert_eq(external_holder(&externals, &endpoint, 6), &places[i]);
	}
}
