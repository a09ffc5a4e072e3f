/* Networks as text, and who is in them. */
#include <criterion/criterion.h>
#include <string.h>

#include "server/policy/network.h"

Test(network, parses_and_makes_canonical)
{
	static const struct {
		const char *text, *canonical; /* NULL = refused */
	} rows[] = {
		{"10.77.0.0/16", "10.77.0.0/16"},
		{"10.77.1.2/16", "10.77.0.0/16"},
		{"10.77.1.2", "10.77.1.2/32"},
		{"10.77.1.2/32", "10.77.1.2/32"},
		{"10.77.1.255/31", "10.77.1.254/31"},
		{"255.255.255.255/1", "128.0.0.0/1"},
		{"10.77.1.2/0", "0.0.0.0/0"},
		{"fd77::/32", "fd77::/32"},
		{"FD77:0:0:1::5/64", "fd77:0:0:1::/64"},
		{"fd77::ffff/121", "fd77::ff80/121"},
		{"fd77::1", "fd77::1/128"},
		{"fd77::1/128", "fd77::1/128"},
		{"::/0", "::/0"},
		{"::ffff:10.77.1.2/24", "10.77.1.0/24"},
		{"::ffff:10.77.1.2/120", NULL},
		{"10.77.0.0/33", NULL},
		{"fd77::/129", NULL},
		{"10.77.0.0/", NULL},
		{"10.77.0.0/-1", NULL},
		{"10.77.0.0/+8", NULL},
		{"10.77.0.0/ 8", NULL},
		{"10.77.0.0/8x", NULL},
		{"10.77.0.0/008", "10.0.0.0/8"},
		{"10.77.0.0/0008", NULL},
		{"10.77.0/16", NULL},
		{"/16", NULL},
		{"", NULL},
		{"lan", NULL},
		{"10.0.0.0/8/8", NULL},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127",
			"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127 and more than fits", NULL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct network network;
		char text[NETWORK_TEXT_SIZE] = "";
		bool parsed = network_parse(rows[i].text, &network);
		cr_expect_eq(parsed, rows[i].canonical != NULL, "%s", rows[i].text);
		if (!parsed || !rows[i].canonical)
			continue;
		network_format(&network, text);
		cr_expect_str_eq(text, rows[i].canonical);
	}
}

static struct addr addr_of(const char *text)
{
	struct addr addr;
	cr_assert(addr_parse(text, &addr), "%s", text);
	return addr;
}

Test(network, contains)
{
	static const struct {
		const char *network, *addr;
		bool inside;
	} rows[] = {
		{"10.77.0.0/16", "10.77.255.255", true},
		{"10.77.0.0/16", "10.78.0.0", false},
		{"10.77.0.0/17", "10.77.127.255", true},
		{"10.77.0.0/17", "10.77.128.0", false},
		{"10.77.1.2/32", "10.77.1.2", true},
		{"10.77.1.2/32", "10.77.1.3", false},
		{"10.77.1.2/31", "10.77.1.3", true},
		{"0.0.0.0/0", "255.1.2.3", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "fd77::1", true},
		{"::/0", "10.77.1.2", false},
		{"fd77:1::/64", "fd77:1::ffff", true},
		{"fd77:1::/64", "fd77:1:0:1::", false},
		{"fd77::/33", "fd77:0:7fff::", true},
		{"fd77::/33", "fd77:0:8000::", false},
		{"fd77::1/128", "fd77::1", true},
		{"fd77::1/128", "fd77::2", false},
		{"fd77::2/127", "fd77::3", true},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct network network;
		struct addr addr = addr_of(rows[i].addr);
		cr_assert(network_parse(rows[i].network, &network));
		cr_expect_eq(network_contains(&network, &addr), rows[i].inside, "%s in %s",
			rows[i].addr, rows[i].network);
	}
}

Test(network, lists)
{
	struct networks list;
	struct addr inside = addr_of("10.77.1.2"), other = addr_of("10.78.1.2"),
		    six = addr_of("fd77::1");
	size_t bad;
	cr_assert(networks_compile("", &list, &bad));
	cr_expect_eq(bad, 0);
	cr_expect(networks_contain(&list, &inside) && networks_contain(&list, &six));
	networks_fini(&list);
	cr_assert(networks_compile("10.77.0.0/16,fd77::/64", &list, &bad));
	cr_expect_eq(list.count, 2);
	cr_expect_eq(bad, 0);
	cr_expect(networks_contain(&list, &inside) && networks_contain(&list, &six));
	cr_expect_not(networks_contain(&list, &other));
	networks_fini(&list);
	/* Damage takes something away and adds nothing. */
	cr_assert(networks_compile("10.77.0.0/x,,fd77::/64,", &list, &bad));
	cr_expect_eq(bad, 2);
	cr_expect_not(networks_contain(&list, &inside));
	cr_expect(networks_contain(&list, &six));
	networks_fini(&list);
	cr_assert(networks_compile("nothing", &list, NULL));
	cr_expect_not(networks_contain(&list, &inside));
	networks_fini(&list);
}
