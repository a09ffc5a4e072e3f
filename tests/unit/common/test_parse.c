#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "common/config.h"

Test(parse, durations)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t ms;
	} cases[] = {
		{"500ms", true, 500},
		{"60s", true, 60000},
		{"5m", true, 300000},
		{"12h", true, 43200000},
		{"7d", true, 604800000},
		{"1m30s", true, 90000},
		{"59.9s", true, 59900},
		{"0.25s", true, 250},
		{"0s", true, 0},
		{"18446744073709551615ms", true, UINT64_MAX},
		{"18446744073709551616ms", false, 0},
		{"18446744073709551615s", false, 0},
		{"18446744073709551615ms1ms", false, 0},
		{"", false, 0},
		{"5", false, 0},
		{"s", false, 0},
		{"-5s", false, 0},
		{"5 s", false, 0},
		{"5s ", false, 0},
		{"5sec", false, 0},
		{"5.s", false, 0},
		{"5.1234s", false, 0},
		{"1e3s", false, 0},
		{"5S", false, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err = {0};
		uint64_t ms = 42;

		cr_expect_eq(parse_duration(cases[i].text, &ms, &err) == STATUS_OK, cases[i].ok,
			"%s", cases[i].text);
		cr_expect_eq(ms, cases[i].ok ? cases[i].ms : 42, "%s", cases[i].text);
		cr_expect_eq(*err.text == '\0', cases[i].ok);
	}
}

Test(parse, formatted_durations_parse_back)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} cases[] = {
		{0, "0s"},
		{1, "1ms"},
		{250, "250ms"},
		{1000, "1s"},
		{1500, "1.5s"},
		{59900, "59.9s"},
		{60000, "1m"},
		{90000, "1m30s"},
		{3600000, "1h"},
		{3660000, "1h1m"},
		{86400000, "1d"},
		{90000000, "1d1h"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[32];
		uint64_t ms;

		format_duration(cases[i].ms, text, sizeof(text));
		cr_expect_str_eq(text, cases[i].text);
		cr_expect_eq(parse_duration(text, &ms, NULL), STATUS_OK);
		cr_expect_eq(ms, cases[i].ms);
	}
}

Test(parse, sizes)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t bytes;
	} cases[] = {
		{"0", true, 0},
		{"1000", true, 1000},
		{"64k", true, 65536},
		{"16M", true, 16777216},
		{"1g", true, 1073741824},
		{"17179869183g", true, UINT64_C(17179869183) << 30},
		{"17179869184g", false, 0},
		{"", false, 0},
		{"k", false, 0},
		{"1kb", false, 0},
		{"1 k", false, 0},
		{"1t", false, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 42;

		cr_expect_eq(parse_size(cases[i].text, &bytes, NULL) == STATUS_OK, cases[i].ok,
			"%s", cases[i].text);
		cr_expect_eq(bytes, cases[i].ok ? cases[i].bytes : 42, "%s", cases[i].text);
	}
}

Test(parse, numbers)
{
	static const struct {
		const char *text;
		uint64_t min, max;
		bool ok;
		uint64_t number;
	} cases[] = {
		{"0", 0, 10, true, 0},
		{"10", 0, 10, true, 10},
		{"11", 0, 10, false, 0},
		{"4", 5, 10, false, 0},
		{"0x80000000", 0, UINT32_MAX, true, 0x80000000},
		{"0xffffffffffffffff", 0, UINT64_MAX, true, UINT64_MAX},
		{"0x10000000000000000", 0, UINT64_MAX, false, 0},
		{"0x", 0, 10, false, 0},
		{"0x-1", 0, 10, false, 0},
		{"18446744073709551615", 0, UINT64_MAX, true, UINT64_MAX},
		{"18446744073709551616", 0, UINT64_MAX, false, 0},
		{"", 0, 10, false, 0},
		{" 1", 0, 10, false, 0},
		{"1x", 0, 10, false, 0},
		{"+1", 0, 10, false, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t number = 42;

		cr_expect_eq(parse_number(cases[i].text, cases[i].min, cases[i].max, &number,
				     NULL) == STATUS_OK,
			cases[i].ok, "%s", cases[i].text);
		cr_expect_eq(number, cases[i].ok ? cases[i].number : 42, "%s", cases[i].text);
	}
}

Test(parse, nearest_word)
{
	static const char *const words[] = {"listen", "database", "grants", "grant", "x", NULL};
	static const struct {
		const char *word, *nearest;
	} cases[] = {
		{"litsen", "listen"},
		{"Listen", "listen"},
		{"databse", "database"},
		{"grnat", "grant"},
		{"grantss", "grants"},
		{"y", NULL},
		{"", NULL},
		{"completely", NULL},
	};
	char big[300];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *nearest = nearest_word(cases[i].word, words);

		if (cases[i].nearest)
			cr_expect_str_eq(nearest ? nearest : "nothing", cases[i].nearest);
		else
			cr_expect_null(nearest, "%s", cases[i].word);
	}
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	cr_assert_null(nearest_word(big, words));
}
