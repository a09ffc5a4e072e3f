#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/feeds/copy.h"

struct example {
	const char *body, *pointer, *key; /* pointer NULL = text */
	size_t v4, v6;
	const char *refused; /* a word of the error; NULL = taken */
};

static const struct example examples[] = {
	{"", NULL, NULL, 0, 0, NULL},
	{"10.0.0.1\n", NULL, NULL, 1, 0, NULL},
	{"\xef\xbb\xbf"
	 "10.0.0.0/8\r\n\r\n  fd00::/8  \n",
		NULL, NULL, 1, 1, NULL},
	{"# all\n10.0.0.1 # one\n10.0.0.2;two\n;\n10.0.0.9-10.0.0.12", NULL, NULL, 2, 0, NULL},
	{"10.0.0.1\nnonsense\n", NULL, NULL, 0, 0, "line 2"},
	{"10.0.0.1/8\n", NULL, NULL, 0, 0, "line 1"},
	{"10.0.0.1 10.0.0.2\n", NULL, NULL, 0, 0, "line 1"},
	{"[\"10.0.0.1\", \"fd00::1\"]", "", "", 1, 1, NULL},
	{"{\"a/b\": {\"~x\": [{\"ip\": \"10.0.0.0/8\"}]}}", "/a~1b/~0x", "ip", 1, 0, NULL},
	{"[[], [\"10.0.0.1\"]]", "/1", "", 1, 0, NULL},
	{"{\"a\": 5}", "/a", "", 0, 0, "no array"},
	{"[\"10.0.0.1\", 5]", "", "", 0, 0, "element 1"},
	{"[{\"ip\": \"x\"}]", "", "ip", 0, 0, "element 0"},
	{"[{\"other\": \"10.0.0.1\"}]", "", "ip", 0, 0, "ip"},
	{"[\"10.0.0.1\"", "", "", 0, 0, "not JSON"},
};

Test(feed_copy, bodies)
{
	for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
		const struct example *example = &examples[i];
		struct ranges ranges = {0};
		struct error err = {0};
		size_t size = strlen(example->body);
		enum status status = example->pointer
			? copy_parse_json(example->body, size, example->pointer, example->key,
				  &ranges, &err)
			: copy_parse_text(example->body, size, &ranges, &err);
		cr_expect_eq(
			status == STATUS_OK, !example->refused, "%s: %s", example->body, err.text);
		if (example->refused)
			cr_expect(strstr(err.text, example->refused), "%s: %s", example->body,
				err.text);
		cr_expect(ranges.v4_count == example->v4 && ranges.v6_count == example->v6,
			"%s: %zu %zu", example->body, ranges.v4_count, ranges.v6_count);
		ranges_fini(&ranges);
	}
}

Test(feed_copy, a_line_longer_than_any_address_is_refused)
{
	char body[600];
	struct ranges ranges = {0};
	struct error err = {0};
	memset(body, '1', sizeof body);
	cr_expect_eq(copy_parse_text(body, sizeof body, &ranges, &err), STATUS_INVALID_ARGUMENT);
	memset(body, '#', sizeof body); /* a comment may be as long as it likes */
	cr_expect_eq(copy_parse_text(body, sizeof body, &ranges, &err), STATUS_OK);
	cr_expect(ranges_is_empty(&ranges));
}

Test(feed_copy, what_is_packed_is_unpacked)
{
	const char *body = "10.0.0.0/8\n192.0.2.7\nfd00::/8\n::1\n255.255.255.255\n"
			   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n";
	struct ranges ranges = {0}, again = {0};
	struct error err = {0};
	size_t size;
	cr_assert_eq(copy_parse_text(body, strlen(body), &ranges, &err), STATUS_OK);
	uint8_t *packed = copy_pack(&ranges, &size);
	cr_assert(copy_unpack(packed, size, &again));
	cr_expect_eq(again.v4_count, 3);
	cr_expect_arr_eq(again.v4, ranges.v4, 3 * sizeof *ranges.v4);
	cr_expect_eq(again.v6_count, 3);
	cr_expect_arr_eq(again.v6, ranges.v6, 3 * sizeof *ranges.v6);
	for (size_t less = 0; less < size; less++) {
		struct ranges none = {0};
		cr_expect_not(copy_unpack(packed, less, &none), "%zu bytes of %zu", less, size);
	}
	free(packed);
	ranges_fini(&ranges);
	ranges_fini(&again);
}
