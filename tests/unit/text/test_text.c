#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/text/text.h"

static void check_escape(const char *in, size_t length, const char *want)
{
	char text[128];

	text_escape(in, length, text, sizeof(text));
	cr_assert_str_eq(text, want);
}

/* What a peer wrote cannot drive the terminal. */
Test(text, escape)
{
	check_escape("plain", 5, "plain");
	check_escape("h\xc3\xa4llo \xe2\x82\xac \xf0\x9f\x9a\xaa", 15,
		"h\xc3\xa4llo \xe2\x82\xac \xf0\x9f\x9a\xaa");
	check_escape("\x1b[31mred\n", 9, "\\x1b[31mred\\x0a");
	check_escape("a\0b", 3, "a\\x00b");
	check_escape("\xc2\x9b"
		     "31m",
		5, "\\xc2\\x9b31m"); /* CSI of C1 */
	check_escape("\xff\xc3", 2, "\\xff\\xc3");
	check_escape(
		"\xc0\xaf\xed\xa0\x80", 5, "\\xc0\\xaf\\xed\\xa0\\x80"); /* overlong, surrogate */
	check_escape("\x7f", 1, "\\x7f");
}

Test(text, escape_is_cut_between_characters)
{
	char text[6];

	text_escape("ab\x1b"
		    "c",
		4, text, sizeof(text));
	cr_assert_str_eq(text, "ab");
	text_escape("abcd\xc3\xa4", 6, text, sizeof(text));
	cr_assert_str_eq(text, "abcd");
	text_escape("abcdef", 6, text, sizeof(text));
	cr_assert_str_eq(text, "abcde");
}

Test(text, width_counts_characters)
{
	cr_assert_eq(text_width("85 \xc2\xb5s"), 5);
}

Test(text, hex)
{
	uint8_t bytes[3] = {0};
	char text[7];

	text_hex((const uint8_t *)"\x00\xab\xff", 3, text);
	cr_assert_str_eq(text, "00abff");
	cr_assert(text_parse_hex("00ABff", bytes, 3));
	cr_assert_arr_eq(bytes, "\x00\xab\xff", 3);
	cr_assert_not(text_parse_hex("00ab", bytes, 3));
	cr_assert_not(text_parse_hex("00abfff", bytes, 3));
	cr_assert_not(text_parse_hex("00abfg", bytes, 3));
	cr_assert_arr_eq(bytes, "\x00\xab\xff", 3);
}

/* RFC 4648, section 10. */
Test(text, base64)
{
	const char *const rows[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
		{"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"},
		{"\xff\xfe\xfd", "//79"}};
	char text[TEXT_BASE64_SIZE(8)];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		text_base64((const uint8_t *)rows[i][0], strlen(rows[i][0]), text);
		cr_assert_str_eq(text, rows[i][1]);
	}
}

#define NOW 1795516463725977 /* 2026-11-24T10:34:23.725977Z */

static int64_t when(const char *text)
{
	int64_t us = -1;

	text_parse_time(text, NOW, &us, NULL);
	return us;
}

Test(text, times_are_read)
{
	setenv("TZ", "CET-1", 1);
	tzset();
	cr_assert_eq(when("now"), NOW);
	cr_assert_eq(when("1h"), NOW - 3600 * 1000000LL);
	cr_assert_eq(when("1m30s"), NOW - 90 * 1000000LL);
	cr_assert_eq(when("2026-11-24T10:34:23.725977Z"), NOW);
	cr_assert_eq(when("2026-11-24 11:34:23.725977"), NOW);
	cr_assert_eq(when("2026-11-24T12:04:23.725977+01:30"), NOW);
	cr_assert_eq(when("2026-11-24"), 1795474800000000); /* local midnight */
	cr_assert_eq(when("11:34"), NOW / 60000000 * 60000000);
	const char *const bad[] = {"", "yesterday", "2026-13-01", "2026-11-24T", "2026-11-24T10",
		"2026-11-24T10:34:23.", "10:34x", "2026-11-24T10:34:23+1", "99999d", "-1h"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(when(bad[i]), -1, "'%s'", bad[i]);
}

Test(text, times_are_shown_local)
{
	char text[TEXT_TIME_SIZE];

	setenv("TZ", "CET-1", 1);
	tzset();
	text_time(NOW, true, text);
	cr_assert_str_eq(text, "2026-11-24 11:34:23.725");
	text_time(NOW, false, text);
	cr_assert_str_eq(text, "2026-11-24 11:34:23");
	text_time(0, false, text);
	cr_assert_str_eq(text, "-");
	text_time(INT64_MAX, false, text);
}

static void check_bytes(uint64_t bytes, const char *want)
{
	char text[TEXT_AMOUNT_SIZE];

	text_bytes(bytes, text);
	cr_assert_str_eq(text, want);
}

static void check_span(int64_t us, const char *want)
{
	char text[TEXT_AMOUNT_SIZE];

	text_span(us, text);
	cr_assert_str_eq(text, want);
}

Test(text, amounts)
{
	check_bytes(0, "0 B");
	check_bytes(999, "999 B");
	check_bytes(1000, "1.0 kB");
	check_bytes(999949, "999.9 kB");
	check_bytes(999950, "1.0 MB");
	check_bytes(UINT64_MAX, "18.4 EB");
	check_span(0, "0");
	check_span(85, "85 \xc2\xb5s");
	check_span(2100, "2.1 ms");
	check_span(1900000, "1.9 s");
	check_span(90000000, "1m30s");
}
