/* Schedules against glibc's idea of local time, and against a scan. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/policy/moment.h"
#include "server/policy/schedule.h"

#define MINUTE INT64_C(60000000)

struct example {
	const char *weekly, *dates, *except; /* NULL = not given */
	const char *field; /* of the refusal; NULL = taken */
};

static const struct example examples[] = {
	{"mon-fri 08:00-18:00", NULL, NULL, NULL},
	{"mon", NULL, NULL, NULL},
	{"sat,sun 10:00-14:00", NULL, NULL, NULL},
	{"fri-mon,wed 00:00-24:00", NULL, NULL, NULL},
	{"fri 22:00-06:00", NULL, NULL, NULL},
	{NULL, "2026-12-24", NULL, NULL},
	{NULL, "2026-12-24..2027-01-02", "2026-12-25", NULL},
	{NULL, "2026-12-24..", NULL, NULL},
	{NULL, "..2026-12-24", NULL, NULL},
	{NULL, "2024-02-29", NULL, NULL},
	{"mon 08:00", NULL, NULL, "weekly[0]"},
	{"Mon 08:00-09:00", NULL, NULL, "weekly[0]"},
	{"mon 8:00-9:00", NULL, NULL, "weekly[0]"},
	{"mon 08:00-08:00", NULL, NULL, "weekly[0]"},
	{"mon 24:00-24:00", NULL, NULL, "weekly[0]"},
	{"mon 24:00-02:00", NULL, NULL, "weekly[0]"},
	{"mon 08:60-09:00", NULL, NULL, "weekly[0]"},
	{"mon 08:00-25:00", NULL, NULL, "weekly[0]"},
	{"mon 08:00-09:00 x", NULL, NULL, "weekly[0]"},
	{"mon- 08:00-09:00", NULL, NULL, "weekly[0]"},
	{"", NULL, NULL, "weekly[0]"},
	{NULL, "2026-02-29", NULL, "dates[0]"},
	{NULL, "2026-13-01", NULL, "dates[0]"},
	{NULL, "..", NULL, "dates[0]"},
	{NULL, "2027-01-02..2026-12-24", NULL, "dates[0]"},
	{NULL, "2026-12-24 ", NULL, "dates[0]"},
	{NULL, NULL, "tomorrow", "except_dates[0]"},
	{NULL, "2026-12-24", "2026-12-01..2026-12-31", "dates"},
	{"sat", "2026-11-23..2026-11-27", NULL, "dates"}, /* Monday to Friday */
	{NULL, NULL, "1970-01-01..", "dates"},
};

static struct schedule parse(const char *zone, const char *const *weekly, size_t weekly_count,
	const char *dates, const char *except, struct error *err)
{
	const struct schedule_texts texts = {.time_zone = zone,
		.weekly = weekly,
		.weekly_count = weekly_count,
		.dates = &dates,
		.date_count = dates != NULL,
		.except_dates = &except,
		.except_count = except != NULL};
	struct schedule schedule = {0};
	(void)schedule_parse(&texts, &schedule, err);
	return schedule;
}

Test(schedule, grammar)
{
	for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
		const struct example *example = &examples[i];
		struct error err = {0};
		struct schedule schedule = parse("", &example->weekly, example->weekly != NULL,
			example->dates, example->except, &err);
		cr_expect_str_eq(err.field, example->field ? example->field : "", "%s %s %s: %s",
			example->weekly, example->dates, example->except, err.text);
		schedule_fini(&schedule);
	}
}

Test(schedule, zones)
{
	static const char *const bad[] = {"Europe/Berlim", "+01:00", "/etc/passwd", "../zone"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct error err = {0};
		(void)parse(bad[i], NULL, 0, NULL, NULL, &err);
		cr_expect_str_eq(err.field, "time_zone", "%s", bad[i]);
	}
}

/* ---- against glibc ---- */

static uint64_t state = 20261124;

static uint32_t roll(uint32_t most)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(state >> 33) % most;
}

struct reference {
	int day, first, last; /* one block: minutes of its day, past midnight if over 1440 */
	int from, to; /* dates as yyyymmdd, 0 = all */
	int except;
};

static int date_of(const struct tm *tm)
{
	return (tm->tm_year + 1900) * 10000 + (tm->tm_mon + 1) * 100 + tm->tm_mday;
}

static bool reference_has(const struct reference *r, int64_t at_s)
{
	time_t at = (time_t)at_s;
	struct tm tm;
	localtime_r(&at, &tm);
	int date = date_of(&tm), weekday = (tm.tm_wday + 6) % 7,
	    minute = tm.tm_hour * 60 + tm.tm_min;
	bool today = weekday == r->day && minute >= r->first && minute < r->last;
	bool yesterday = weekday == (r->day + 1) % 7 && minute + 1440 < r->last;
	return (today || yesterday) && (!r->from || (date >= r->from && date <= r->to)) &&
		date != r->except;
}

static void compare_with_glibc(const char *zone)
{
	static const char *const days[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
	char week[64], dates[64] = "", except[32];
	struct reference r = {.day = (int)roll(7), .first = (int)roll(1440)};
	r.last = r.first + 1 + (int)roll(1440);
	if (r.last - r.first >= 1440)
		r.last = r.first + 1439;
	int end = r.last > 1440 ? r.last - 1440 : r.last;
	snprintf(week, sizeof week, "%s %02d:%02d-%02d:%02d", days[r.day], r.first / 60,
		r.first % 60, end / 60, end % 60);
	if (roll(2)) {
		r.from = 20250101 + (int)roll(12) * 100;
		r.to = 20260101 + (int)roll(12) * 100;
		snprintf(dates, sizeof dates, "%04d-%02d-01..%04d-%02d-01", r.from / 10000,
			r.from / 100 % 100, r.to / 10000, r.to / 100 % 100);
	}
	r.except = 20250601 + (int)roll(28);
	snprintf(except, sizeof except, "%04d-%02d-%02d", r.except / 10000, r.except / 100 % 100,
		r.except % 100);
	const char *weekly = week;
	struct error err = {0};
	struct schedule schedule = parse(zone, &weekly, 1, dates[0] ? dates : NULL, except, &err);
	cr_assert_eq(err.status, STATUS_OK, "%s", err.text);
	setenv("TZ", zone, 1);
	tzset();
	int64_t at_s = 1735689600; /* 2025-01-01 UTC, for two years */
	for (; at_s < 1735689600 + 2 * 366 * 86400; at_s += 60 * (1 + roll(40)))
		cr_assert_eq(schedule_is_active(&schedule, at_s * 1000000), reference_has(&r, at_s),
			"%s %s %s but %s at %lld", zone, week, dates, except, (long long)at_s);
	schedule_fini(&schedule);
}

static const char *const zones[] = {"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata",
	"Australia/Lord_Howe", "Africa/Casablanca"};

Test(schedule, is_active_as_glibc_has_local_time)
{
	for (size_t i = 0; i < sizeof zones / sizeof *zones; i++)
		for (int j = 0; j < 6; j++)
			compare_with_glibc(zones[i]);
}

/* ---- looking ahead ---- */

Test(schedule, nothing_changes_before_the_next_change)
{
	static const char *const blocks[] = {"mon-fri 08:00-18:00", "sun 01:30-03:30", "sat,sun",
		"fri 22:00-06:00", "mon-sun 02:15-02:45"};
	for (size_t i = 0; i < sizeof zones / sizeof *zones; i++)
		for (size_t j = 0; j < sizeof blocks / sizeof *blocks; j++) {
			struct error err = {0};
			struct schedule schedule = parse(zones[i], &blocks[j], 1,
				roll(2) ? "2025-03-01..2025-11-15" : NULL, "2025-10-26", &err);
			int64_t at = INT64_C(1742000000000000) + roll(86400) * INT64_C(1000000);
			for (int steps = 0; steps < 60; steps++) {
				bool now = schedule_is_active(&schedule, at);
				int64_t next = schedule_next_change(&schedule, at);
				cr_assert_gt(next, at);
				for (int64_t t = at; t < next && t < at + 20 * 1440 * MINUTE;
					t += 7 * MINUTE)
					cr_assert_eq(schedule_is_active(&schedule, t), now,
						"%s %s: %lld before %lld", zones[i], blocks[j],
						(long long)t, (long long)next);
				cr_assert_eq(schedule_is_active(&schedule, next - 1), now);
				at = next;
			}
			schedule_fini(&schedule);
		}
}

Test(schedule, without_times_nothing_ever_changes)
{
	struct error err = {0};
	struct schedule schedule = parse("Europe/Berlin", NULL, 0, NULL, NULL, &err);
	cr_expect(schedule_is_active(&schedule, 0));
	cr_expect_eq(schedule_next_change(&schedule, 0), INT64_MAX);
	schedule_fini(&schedule);
}

Test(moment, texts)
{
	static const struct {
		const char *text;
		bool date_too;
		int64_t us; /* -1 = refused */
	} moments[] = {
		{"1970-01-01T00:00:00Z", false, 0},
		{"2026-11-24T19:00:00Z", false, INT64_C(1795546800000000)},
		{"2026-11-24T20:00:00.25+01:00", false, INT64_C(1795546800250000)},
		{"2026-11-24 14:00:00-05:00", false, INT64_C(1795546800000000)},
		{"2026-11-23", true, INT64_C(1795478400000000)},
		{"2026-11-23", false, -1},
		{"2026-11-24T19:00:00", false, -1},
		{"2026-11-24T24:00:00Z", false, -1},
		{"2026-02-30T00:00:00Z", false, -1},
		{"2026-11-24T19:00:00.Z", false, -1},
		{"soon", true, -1},
		{"", true, -1},
	};
	for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
		int64_t us = -1;
		bool parsed = moment_parse(moments[i].text, moments[i].date_too, &us);
		cr_expect_eq(parsed, moments[i].us >= 0, "%s", moments[i].text);
		cr_expect_eq(us, moments[i].us, "%s: %lld", moments[i].text, (long long)us);
	}
}
