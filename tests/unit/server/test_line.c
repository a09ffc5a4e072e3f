/* Lines of grants with the same key: only the first has the door. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "server/grants/line.h"

static struct lines lines;
static struct line_place places[100];

static struct addr address(const char *text)
{
	struct addr addr;
	cr_assert(addr_parse(text, &addr));
	return addr;
}

static void join(struct line_place *place, const char *client, const char *remote, uint16_t port,
	uint8_t transport)
{
	struct line_key key = {.from = address(client),
		.to = {.addr = address(remote), .port = port},
		.transport = transport};
	cr_assert(line_join(&lines, &key, place));
}

static void join_same(struct line_place *place)
{
	join(place, "10.77.1.2", "10.77.2.2", 1046, IPPROTO_TCP);
}

static void setup(void)
{
	lines_init(&lines);
}

static void teardown(void)
{
	cr_expect_eq(table_count(&lines.table), 0, "an empty line is freed");
	lines_fini(&lines);
}

TestSuite(line, .init = setup, .fini = teardown);

Test(line, the_next_one_moves_up)
{
	for (int i = 0; i < 4; i++)
		join_same(&places[i]);
	cr_expect(line_is_first(&places[0]));
	cr_expect_not(line_is_first(&places[1]));
	cr_expect_null(line_leave(&lines, &places[2]), "from the middle nobody moves up");
	cr_expect_eq(line_leave(&lines, &places[0]), &places[1]);
	cr_expect_eq(line_leave(&lines, &places[1]), &places[3]);
	cr_expect_null(line_leave(&lines, &places[3]));
	cr_expect_null(line_leave(&lines, &places[3]), "twice does no harm");
}

Test(line, whoever_has_the_door_goes_first)
{
	for (int i = 0; i < 3; i++)
		join_same(&places[i]);
	line_promote(&places[2]);
	cr_expect(line_is_first(&places[2]));
	line_promote(&places[2]);
	join_same(&places[3]);
	cr_expect_eq(line_leave(&lines, &places[2]), &places[0]);
	line_promote(&places[1]);
	cr_expect_eq(line_leave(&lines, &places[1]), &places[0]);
	cr_expect_eq(line_leave(&lines, &places[0]), &places[3], "the end is where it was");
	cr_expect_null(line_leave(&lines, &places[3]));
	line_promote(&places[3]);
	cr_expect_not(line_is_first(&places[3]), "in no line");
}

Test(line, every_part_of_the_key_counts)
{
	join_same(&places[0]);
	join(&places[1], "10.77.1.3", "10.77.2.2", 1046, IPPROTO_TCP);
	join(&places[2], "10.77.1.2", "10.77.2.3", 1046, IPPROTO_TCP);
	join(&places[3], "10.77.1.2", "10.77.2.2", 1047, IPPROTO_TCP);
	join(&places[4], "10.77.1.2", "10.77.2.2", 1046, IPPROTO_UDP);
	join(&places[5], "fd77:1::2", "fd77:2::2", 1046, IPPROTO_TCP);
	struct line_key range = {.from = address("10.77.1.2"),
		.to = {.addr = address("10.77.2.2"), .port = 1046},
		.to_port_last = 1047,
		.transport = IPPROTO_TCP};
	struct line_key anybody = range;
	anybody.to_port_last = 0;
	memset(&anybody.from, 0, sizeof anybody.from);
	cr_assert(line_join(&lines, &range, &places[6]));
	cr_assert(line_join(&lines, &anybody, &places[7]));
	for (int i = 0; i < 8; i++)
		cr_expect(line_is_first(&places[i]), "%d", i);
	for (int i = 0; i < 8; i++)
		cr_expect_null(line_leave(&lines, &places[i]));
}

/* Any order of leaving: there is always exactly one first, and it is the oldest. */
Test(line, the_oldest_is_always_first)
{
	unsigned seed = 7;
	bool in[100] = {false};
	for (int i = 0; i < 100; i++) {
		join_same(&places[i]);
		in[i] = true;
	}
	for (int left = 100; left > 0; left--) {
		int i = rand_r(&seed) % 100;
		while (!in[i])
			i = (i + 1) % 100;
		line_leave(&lines, &places[i]);
		in[i] = false;
		bool found = false;
		for (int j = 0; j < 100; j++) {
			cr_assert_eq(line_is_first(&places[j]), in[j] && !found);
			found |= in[j];
		}
	}
}
