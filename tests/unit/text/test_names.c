#include <criterion/criterion.h>
#include <string.h>

#include "client/text/names.h"
#include "postern/v1/grants.pb-c.h"
#include "postern/v1/policy.pb-c.h"
#include "postern/v1/types.pb-c.h"

struct row {
	const ProtobufCEnumDescriptor *type;
	int value;
	const char *name;
};

static const struct row rows[] = {
	{&postern__v1__transport__descriptor, 6, "tcp"},
	{&postern__v1__transport__descriptor, 0, ""},
	{&postern__v1__transport__descriptor, 99, "99"},
	{&postern__v1__end_reason__descriptor, 1, "used-up"},
	{&postern__v1__entry_kind__descriptor, 33, "established"},
	{&postern__v1__entry_kind__descriptor, 20, "session-opened"},
	{&postern__v1__grant_flag__descriptor, 0, ""},
	{&postern__v1__grant_flag__descriptor, 8, "no-kernel-mode"},
	{&postern__v1__wait__descriptor, 0, "installed"},
	{&postern__v1__rule_type__descriptor, 2, "site-and-content"},
};

Test(names, both_ways)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[NAME_SIZE];
		int value = -1;

		name_of(rows[i].type, rows[i].value, text);
		cr_assert_str_eq(text, rows[i].name);
		if (text[0] == '\0' || rows[i].value == 99)
			continue;
		cr_assert(name_parse(rows[i].type, text, &value));
		cr_assert_eq(value, rows[i].value);
	}
}

Test(names, what_is_no_name)
{
	const char *const bad[] = {"", "unspecified", "TCP", "transport-tcp", "TRANSPORT_TCP", "6"};
	int value = -1;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(name_parse(&postern__v1__transport__descriptor, bad[i], &value),
			"'%s'", bad[i]);
	cr_assert_not(name_parse(&postern__v1__grant_flag__descriptor, "none", &value));
	cr_assert_eq(value, -1);
}

Test(names, lists_and_suggestions)
{
	char text[NAMES_SIZE];

	name_list(&postern__v1__transport__descriptor, "|", text, sizeof(text));
	cr_assert_str_eq(text, "tcp|udp");
	/* Fits in what help reserves. */
	name_list(&postern__v1__entry_kind__descriptor, ", ", text, sizeof(text));
	cr_assert_not_null(strstr(text, "uses-recovered"));
	cr_assert(name_nearest(&postern__v1__entry_kind__descriptor, "establishd", text));
	cr_assert_str_eq(text, "established");
	cr_assert_not(name_nearest(&postern__v1__entry_kind__descriptor, "zzzzzzzzzzzz", text));
}
