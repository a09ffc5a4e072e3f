/* Sets of ports: texts, and questions against every port of a plain table. */
#include <criterion/criterion.h>
#include <string.h>

#include "server/policy/ports.h"

Test(ports, texts)
{
	static const struct {
		const char *text, *words; /* words: refused */
	} rows[] = {
		{"1", NULL},
		{"65535", NULL},
		{"1024-65535", NULL},
		{"21-21", NULL},
		{"0", "not a port"},
		{"0-5", "not a port"},
		{"65536", "not a port"},
		{"100000", "not a port"},
		{"", "not a port"},
		{"-", "not a port"},
		{"21-", "not a port"},
		{"+21", "not a port"},
		{"21 ", "not a port"},
		{"1-2-3", "not a port"},
		{"ftp", "not a port"},
		{"22-21", "reversed"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *texts[] = {"7", rows[i].text};
		struct ports ports = {0};
		struct error err = {0};
		size_t bad = 99;
		enum status status = ports_parse(texts, 2, &ports, &bad, &err);
		cr_expect_eq(status, rows[i].words ? STATUS_INVALID_ARGUMENT : STATUS_OK, "%s: %s",
			rows[i].text, err.text);
		if (rows[i].words) {
			cr_expect_eq(bad, 1, "%s", rows[i].text);
			cr_expect(strstr(err.text, rows[i].words), "%s", err.text);
			cr_expect_null(ports.items);
		}
		ports_fini(&ports);
	}
}

Test(ports, cover_and_touch)
{
	static const char *const texts[] = {"30-40", "20-25", "26", "35-45", "65530-65535", "1"};
	static bool has[65537];
	struct ports ports;
	struct error err;
	size_t bad;
	for (int port = 20; port <= 45; port++)
		has[port] = port <= 26 || port >= 30;
	for (int port = 65530; port <= 65535; port++)
		has[port] = true;
	has[1] = true;
	cr_assert_eq(ports_parse(texts, 6, &ports, &bad, &err), STATUS_OK);
	cr_expect_eq(ports.count, 4);
	for (int first = 1; first <= 60; first++)
		for (int last = first; last <= 60; last++) {
			bool all = true, any = false;
			for (int port = first; port <= last; port++) {
				all &= has[port];
				any |= has[port];
			}
			cr_assert_eq(ports_cover(&ports, (uint16_t)first, (uint16_t)last), all);
			cr_assert_eq(ports_touch(&ports, (uint16_t)first, (uint16_t)last), any);
		}
	cr_expect(ports_cover(&ports, 65530, 65535));
	cr_expect_not(ports_cover(&ports, 65529, 65535));
	cr_expect(ports_touch(&ports, 46, 65535));
	cr_expect_not(ports_touch(&ports, 46, 65529));
	ports_fini(&ports);
}
