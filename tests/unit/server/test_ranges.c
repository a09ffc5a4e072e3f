/* Sets of addresses against a list that is asked one range after the other. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/policy/ranges.h"

static struct addr addr_of(const char *text)
{
	struct addr addr = {0};
	cr_assert(addr_parse(text, &addr), "%s", text);
	return addr;
}

static uint32_t random_below(uint32_t most)
{
	static uint64_t state = 88172645463325252ULL;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32) % most;
}

/* Few values, also the ends of the family, so that ranges meet, touch and hold each other. */
static struct addr random_addr(bool is_ipv4)
{
	struct addr addr = {.family = is_ipv4 ? ADDR_IPV4 : ADDR_IPV6};
	size_t length = addr_length(&addr);
	if (random_below(3) == 0)
		memset(addr.bytes, 0xff, length);
	addr.bytes[length - 1] ^= (uint8_t)random_below(40);
	return addr;
}

Test(ranges, hold_what_a_list_holds)
{
	for (int round = 0; round < 20000; round++) {
		struct ranges ranges = {0};
		struct addr first[12], last[12];
		size_t count = random_below(12);
		for (size_t i = 0; i < count; i++) {
			bool is_ipv4 = random_below(2);
			struct addr a = random_addr(is_ipv4), b = random_addr(is_ipv4);
			bool ordered = addr_compare(&a, &b) <= 0;
			first[i] = ordered ? a : b;
			last[i] = ordered ? b : a;
			cr_assert(ranges_add(&ranges, &first[i], &last[i]));
		}
		ranges_normalize(&ranges);
		for (size_t i = 1; i < ranges.v4_count; i++)
			cr_assert_gt(ranges.v4[i].first - ranges.v4[i - 1].last, 1);
		for (int i = 0; i < 40; i++) {
			struct addr addr = random_addr(i % 2);
			bool want = false;
			for (size_t j = 0; j < count; j++)
				want |= addr.family == first[j].family &&
					addr_compare(&first[j], &addr) <= 0 &&
					addr_compare(&addr, &last[j]) <= 0;
			cr_assert_eq(ranges_contain(&ranges, &addr), want, "round %d", round);
		}
		ranges_fini(&ranges);
	}
}

Test(ranges, texts)
{
	static const struct {
		const char *text, *in, *out, *words; /* words: refused */
	} rows[] = {
		{"10.0.0.0/8", "10.255.255.255", "11.0.0.0", NULL},
		{"10.1.1.1-10.1.1.9", "10.1.1.9", "10.1.1.10", NULL},
		{"0.0.0.0/0", "255.255.255.255", "::1", NULL},
		{"::/0", "ffff::", "1.2.3.4", NULL},
		{"fd77::5", "fd77::5", "fd77::6", NULL},
		{"[fd77::5]", "fd77::5", "fd77::4", NULL},
		{"fd77::/32", "fd77:0:ffff::1", "fd77:1::", NULL},
		{"fd77::1-fd77::2", "fd77::2", "fd77::3", NULL},
		{"10.0.0.1/8", NULL, NULL, "10.0.0.0/8"},
		{"fd77::1/32", NULL, NULL, "fd77::/32"},
		{"10.0.0.9-10.0.0.1", NULL, NULL, "reversed"},
		{"10.0.0.1-fd77::1", NULL, NULL, "IPv6"},
		{"10.0.0.0/33", NULL, NULL, "32"},
		{"fd77::/129", NULL, NULL, "128"},
		{"10.0.0.0/", NULL, NULL, "prefix length"},
		{"10.0.0.0/-1", NULL, NULL, "not an address"},
		{"[10.0.0.1]", NULL, NULL, "not an address"},
		{"10.0.0", NULL, NULL, "not an address"},
		{"", NULL, NULL, "not an address"},
		{"10.0.0.1 ", NULL, NULL, "not an address"},
		{"10.0.0.0/8-10.0.0.9", NULL, NULL, "not an address"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct ranges ranges = {0};
		struct error err = {0};
		enum status status = ranges_add_text(&ranges, rows[i].text, &err);
		cr_expect_eq(status, rows[i].words ? STATUS_INVALID_ARGUMENT : STATUS_OK, "%s: %s",
			rows[i].text, err.text);
		ranges_normalize(&ranges);
		if (rows[i].words) {
			cr_expect(
				strstr(err.text, rows[i].words), "%s: %s", rows[i].text, err.text);
			cr_expect(ranges_is_empty(&ranges), "%s", rows[i].text);
		} else {
			struct addr in = addr_of(rows[i].in), out = addr_of(rows[i].out);
			cr_expect(ranges_contain(&ranges, &in), "%s", rows[i].text);
			cr_expect_not(ranges_contain(&ranges, &out), "%s", rows[i].text);
		}
		ranges_fini(&ranges);
	}
}

Test(ranges, cover_a_family_in_pieces)
{
	static const char *const pieces[] = {"::/1", "128.0.0.0/1", "8000::/1", "0.0.0.0/1"};
	struct ranges ranges = {0}, all = {0};
	struct error err;
	for (size_t i = 0; i < 4; i++) {
		cr_expect_not(ranges_cover_family(&ranges, ADDR_IPV4));
		cr_assert_eq(ranges_add_text(&ranges, pieces[i], &err), STATUS_OK);
		ranges_normalize(&ranges);
	}
	cr_expect(ranges_cover_family(&ranges, ADDR_IPV4));
	cr_expect(ranges_cover_family(&ranges, ADDR_IPV6));
	cr_assert(ranges_add_all(&all, &ranges));
	cr_expect(ranges_touch_family(&all, ADDR_IPV6) && ranges_touch_family(&all, ADDR_IPV4));
	ranges_fini(&ranges);
	ranges_fini(&all);
}
