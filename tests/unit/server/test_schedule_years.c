/* Schedules against the C library's idea of local time, minute by minute over years in zones whose
 * clocks change by an hour, by half an hour, around Ramadan, or never. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/policy/schedule.h"

#define US 1000000LL

static enum status parse(const char *zone, const char *const *weekly, size_t weekly_count,
	const char *const *dates, size_t date_count, const char *const *except, size_t except_count,
	struct schedule *schedule, struct error *err)
{
	struct schedule_texts texts = {
		zone, weekly, dates, except, weekly_count, date_count, except_count};
	memset(schedule, 0, sizeof *schedule);
	memset(err, 0, sizeof *err);
	return schedule_parse(&texts, schedule, err);
}

/* Mon-fri 08:00-18:00, fri 22:00-06:00, sun 01:30-03:15, except 2026-12-24..2027-01-02. */
static bool expected(time_t at)
{
	struct tm tm;
	localtime_r(&at, &tm);
	int minute = tm.tm_hour * 60 + tm.tm_min;
	int date = (tm.tm_year + 1900) * 10000 + (tm.tm_mon + 1) * 100 + tm.tm_mday;
	if (date >= 20261224 && date <= 20270102)
		return false;
	bool work = tm.tm_wday >= 1 && tm.tm_wday <= 5 && minute >= 480 && minute < 1080;
	bool night = (tm.tm_wday == 5 && minute >= 1320) || (tm.tm_wday == 6 && minute < 360);
	bool sunday = tm.tm_wday == 0 && minute >= 90 && minute < 195;
	return work || night || sunday;
}

Test(schedule, agrees_with_the_c_library_in_every_minute)
{
	static const char *const zones[] = {"UTC", "Europe/Berlin", "America/New_York",
		"Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca"};
	static const char *const weekly[] = {
		"mon-fri 08:00-18:00", "fri 22:00-06:00", "sun 01:30-03:15"};
	static const char *const except[] = {"2026-12-24..2027-01-02"};
	const time_t begin = 1767225600, end = begin + 2 * 365 * 86400; /* 2026, 2027 */
	for (size_t i = 0; i < sizeof zones / sizeof *zones; i++) {
		struct schedule schedule;
		struct error err;
		cr_assert_eq(parse(zones[i], weekly, 3, NULL, 0, except, 1, &schedule, &err),
			STATUS_OK, "%s: %s", zones[i], err.text);
		setenv("TZ", zones[i], 1);
		tzset();
		bool before = expected(begin);
		int64_t next = schedule_next_change(&schedule, begin * US);
		for (time_t at = begin; at < end; at += 60) {
			bool now = expected(at);
			cr_assert_eq(schedule_is_active(&schedule, at * US), now, "%s: %ld",
				zones[i], (long)at);
			if (now != before) {
				cr_assert_eq(next, at * US, "%s: next change %lld, not %ld",
					zones[i], (long long)(next / US), (long)at);
				cr_assert_eq(schedule_is_active(&schedule, next - 1), before);
				next = schedule_next_change(&schedule, at * US);
				cr_assert_gt(next, at * US);
			}
			before = now;
		}
		schedule_fini(&schedule);
	}
}

Test(schedule, refuses_with_the_piece)
{
	static const struct {
		const char *zone, *weekly, *dates, *except, *field;
	} rows[] = {
		{"Europe/Berlim", NULL, NULL, NULL, "time_zone"},
		{"../etc/passwd", NULL, NULL, NULL, "time_zone"},
		{"+01:00", NULL, NULL, NULL, "time_zone"},
		{"", "mo 08:00-09:00", NULL, NULL, "weekly[0]"},
		{"", "mon 8:00-09:00", NULL, NULL, "weekly[0]"},
		{"", "mon 08:00-08:00", NULL, NULL, "weekly[0]"},
		{"", "mon 24:00-01:00", NULL, NULL, "weekly[0]"},
		{"", "mon 08:00-24:01", NULL, NULL, "weekly[0]"},
		{"", "mon, 08:00-09:00", NULL, NULL, "weekly[0]"},
		{"", "", NULL, NULL, "weekly[0]"},
		{"", NULL, "2026-02-29", NULL, "dates[0]"},
		{"", NULL, "2026-12-24..2026-12-23", NULL, "dates[0]"},
		{"", NULL, "..", NULL, "dates[0]"},
		{"", NULL, NULL, "2026-13-01", "except_dates[0]"},
		{"", NULL, "2026-12-24", "2026-12-01..", "dates"},
		{"", "mon", "2026-12-24", NULL, "dates"}, /* a Thursday */
		{"", "mon", "2026-11-22..2026-11-24", "2026-11-23", "dates"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct schedule schedule;
		struct error err;
		enum status status = parse(rows[i].zone, &rows[i].weekly, rows[i].weekly != NULL,
			&rows[i].dates, rows[i].dates != NULL, &rows[i].except,
			rows[i].except != NULL, &schedule, &err);
		cr_expect_eq(status, STATUS_INVALID_ARGUMENT, "row %zu", i);
		cr_expect_str_eq(err.field, rows[i].field, "row %zu: %s", i, err.text);
		cr_expect_neq(err.text[0], '\0', "row %zu", i);
	}
}

Test(schedule, an_impossible_one_is_found_among_many_exceptions)
{
	static char texts[1024][16];
	const char *except[1024], *sunday = "sun 10:00-11:00", *dates[2];
	char range[2][40];
	struct schedule schedule;
	struct error err;
	for (int i = 0; i < 1024; i++) { /* the Sundays from 2026-01-04 on */
		time_t at = 1767484800 + (time_t)i * 7 * 86400;
		strftime(texts[i], sizeof texts[i], "%Y-%m-%d", gmtime(&at));
		except[1023 - i] = texts[i];
	}
	snprintf(range[0], sizeof range[0], "%s..%s", texts[0], texts[1023]);
	snprintf(range[1], sizeof range[1], "%s..%s", texts[5], texts[100]);
	dates[0] = range[0];
	dates[1] = range[1];
	cr_expect_eq(parse("", &sunday, 1, dates, 2, except, 1024, &schedule, &err),
		STATUS_INVALID_ARGUMENT);
	cr_expect_eq(parse("", &sunday, 1, dates, 2, except, 1023, &schedule, &err), STATUS_OK,
		"the first Sunday is left: %s", err.text);
	schedule_fini(&schedule);
	cr_expect_eq(parse("", &sunday, 1, NULL, 0, except, 1024, &schedule, &err), STATUS_OK);
	schedule_fini(&schedule);
}

Test(schedule, ends_and_never_changes)
{
	static const char *const past[] = {"2020-01-01..2020-01-02"};
	struct schedule schedule;
	struct error err;
	cr_assert_eq(parse("", NULL, 0, NULL, 0, NULL, 0, &schedule, &err), STATUS_OK);
	cr_expect(schedule_is_active(&schedule, 0));
	cr_expect_eq(schedule_next_change(&schedule, 0), INT64_MAX);
	schedule_fini(&schedule);
	cr_assert_eq(parse("", NULL, 0, past, 1, NULL, 0, &schedule, &err), STATUS_OK);
	cr_expect(schedule_is_active(&schedule, 1577923200 * US)); /* 2020-01-02 */
	cr_expect_eq(schedule_next_change(&schedule, 1577923200 * US), 1578009600 * US);
	cr_expect_not(schedule_is_active(&schedule, 1578009600 * US));
	cr_expect_gt(schedule_next_change(&schedule, 1578009600 * US), 1578009600 * US);
	schedule_fini(&schedule);
}
