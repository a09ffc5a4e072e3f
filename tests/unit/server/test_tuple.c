/* Flows turned from conntrack's view to the journal's: by direction, with and without translation.
 */
#include <criterion/criterion.h>

#include "server/grants/tuple.h"

static struct endpoint at(const char *text)
{
	struct endpoint endpoint = {0};
	if (text[0])
		cr_assert(endpoint_parse(text, true, &endpoint), "%s", text);
	return endpoint;
}

static void expect_at(const struct endpoint *got, const char *wanted, const char *what, size_t row)
{
	struct endpoint endpoint = at(wanted);
	char text[ENDPOINT_TEXT_SIZE];
	endpoint_format(got, text);
	cr_expect(endpoint_equal(got, &endpoint), "row %zu, %s: %s", row, what, text);
}

Test(tuple, each_direction_with_and_without_translation)
{
	static const struct {
		bool inbound;
		const char *from, *to; /* conntrack's original direction */
		const char *reply_from, *reply_to; /* "" = not translated */
		const char *client, *remote, *external;
	} rows[] = {
		{false, "10.77.1.2:40000", "10.77.2.2:21", "", "", "10.77.1.2:40000",
			"10.77.2.2:21", ""},
		{false, "10.77.1.2:40000", "10.77.2.2:21", "10.77.2.2:21", "10.77.2.101:2000",
			"10.77.1.2:40000", "10.77.2.2:21", "10.77.2.101:2000"},
		{false, "[fd77:1::2]:40000", "[fd77:2::2]:21", "[fd77:2::2]:21",
			"[fd77:2::101]:40000", "[fd77:1::2]:40000", "[fd77:2::2]:21",
			"[fd77:2::101]:40000"},
		/* Somebody else's translation of the far end only. */
		{false, "10.77.1.2:40000", "10.77.2.2:21", "10.77.9.9:21", "10.77.1.2:40000",
			"10.77.1.2:40000", "10.77.2.2:21", ""},
		{true, "10.77.2.2:20", "10.77.1.2:4000", "", "", "10.77.1.2:4000", "10.77.2.2:20",
			""},
		{true, "10.77.2.2:20", "10.77.2.101:30000", "10.77.1.2:4000", "10.77.2.2:20",
			"10.77.1.2:4000", "10.77.2.2:20", "10.77.2.101:30000"},
		{true, "[fd77:2::2]:20", "[fd77:2::101]:30000", "[fd77:1::2]:4000",
			"[fd77:2::2]:20", "[fd77:1::2]:4000", "[fd77:2::2]:20",
			"[fd77:2::101]:30000"},
		/* Said to be translated, but only the port was, or nothing. */
		{true, "10.77.2.2:20", "10.77.1.2:30000", "10.77.1.2:4000", "10.77.2.2:20",
			"10.77.1.2:4000", "10.77.2.2:20", "10.77.1.2:30000"},
		{true, "10.77.2.2:20", "10.77.1.2:4000", "10.77.1.2:4000", "10.77.2.2:20",
			"10.77.1.2:4000", "10.77.2.2:20", ""},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct told_flow told = {.flow = {.id = 7,
						 .client = at(rows[i].from),
						 .remote = at(rows[i].to),
						 .transport = 6,
						 .accounted = true,
						 .packets_sent = 1,
						 .bytes_sent = 2,
						 .packets_received = 3,
						 .bytes_received = 4,
						 .duration_us = 5},
			.translated = rows[i].reply_from[0] != '\0',
			.reply_source = at(rows[i].reply_from),
			.reply_destination = at(rows[i].reply_to)};
		struct flow flow = flow_turn(&told, rows[i].inbound);
		expect_at(&flow.client, rows[i].client, "client", i);
		expect_at(&flow.remote, rows[i].remote, "remote", i);
		expect_at(&flow.external, rows[i].external, "external", i);
		cr_expect_eq(flow.id, 7);
		cr_expect_eq(flow.packets_sent, rows[i].inbound ? 3 : 1, "client to remote");
		cr_expect_eq(flow.bytes_sent, rows[i].inbound ? 4 : 2);
		cr_expect_eq(flow.packets_received, rows[i].inbound ? 1 : 3);
		cr_expect_eq(flow.bytes_received, rows[i].inbound ? 2 : 4);
		cr_expect_eq(flow.duration_us, 5);
	}
}
