#include "server/policy/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/policy/moment.h"
#include "server/policy/zone.h"

#define DAY_MINUTES 1440
#define WEEK_MINUTES (7 * DAY_MINUTES)
#define DAY_S INT64_C(86400)
#define STEPS_MAX 1000 /* looking ahead; then "may differ" is the answer */

struct schedule_block {
	int first, last; /* minutes since Monday 00:00; last is behind the block and may exceed a
			    week */
};

struct schedule_dates {
	int64_t first, last; /* days since 1970, both inclusive */
};

void schedule_fini(struct schedule *schedule)
{
	zone_free(schedule->zone);
	free(schedule->blocks);
	free(schedule->dates);
	free(schedule->except);
	*schedule = (struct schedule){0};
}

/* ---- text ---- */

static enum status bad(
	struct error *err, const char *field, size_t element, const char *text, const char *what)
{
	char path[48];
	snprintf(path, sizeof path, "%s[%zu]", field, element);
	return error_field(err, path, "\"%.60s\": %s", text, what);
}

static const char *parse_day(const char *at, int *ret_day)
{
	static const char *const days[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
	for (int i = 0; i < 7; i++)
		if (strncmp(at, days[i], 3) == 0) {
			*ret_day = i;
			return at + 3;
		}
	return NULL;
}

/* "mon-fri,sun": a bit per day. */
static const char *parse_days(const char *at, unsigned *ret_days)
{
	unsigned days = 0;
	for (;;) {
		int first, last;
		if (!(at = parse_day(at, &first)))
			return NULL;
		last = first;
		if (*at == '-' && !(at = parse_day(at + 1, &last)))
			return NULL;
		for (int day = first;; day = (day + 1) % 7) {
			days |= 1U << day;
			if (day == last)
				break;
		}
		if (*at != ',')
			break;
		at++;
	}
	*ret_days = days;
	return at;
}

/* "08:00" to "24:00" */
static const char *parse_time(const char *at, int *ret_minute)
{
	for (int i = 0; i < 5; i++)
		if (i == 2 ? at[i] != ':' : at[i] < '0' || at[i] > '9')
			return NULL;
	int hour = (at[0] - '0') * 10 + at[1] - '0', minute = (at[3] - '0') * 10 + at[4] - '0';
	if (minute > 59 || hour > 24 || (hour == 24 && minute > 0))
		return NULL;
	*ret_minute = hour * 60 + minute;
	return at + 5;
}

static enum status parse_week(
	const char *text, size_t element, struct schedule *schedule, struct error *err)
{
	unsigned days;
	int first = 0, last = DAY_MINUTES;
	const char *at = parse_days(text, &days);
	if (!at || (*at && *at != ' '))
		return bad(err, "weekly", element, text,
			"write days and hours, like mon-fri 08:00-18:00, or sat,sun");
	while (*at == ' ')
		at++;
	if (*at &&
		(!(at = parse_time(at, &first)) || *at != '-' ||
			!(at = parse_time(at + 1, &last)) || *at))
		return bad(err, "weekly", element, text,
			"the hours are written 08:00-18:00, from 00:00 to 24:00");
	if (first == last || first == DAY_MINUTES)
		return bad(err, "weekly", element, text, "this block is empty");
	if (last < first)
		last += DAY_MINUTES; /* into the next day */
	for (int day = 0; day < 7; day++)
		if (days & 1U << day)
			schedule->blocks[schedule->block_count++] = (struct schedule_block){
				day * DAY_MINUTES + first, day * DAY_MINUTES + last};
	return STATUS_OK;
}

static enum status parse_dates(const char *field, const char *text, size_t element,
	struct schedule_dates *ret_dates, struct error *err)
{
	struct schedule_dates dates = {INT64_MIN / 2, INT64_MAX / 2};
	const char *at = text;
	bool open = strncmp(at, "..", 2) == 0;
	if (!open && (at = date_parse(at, &dates.first)) && *at == '\0') {
		*ret_dates = (struct schedule_dates){dates.first, dates.first};
		return STATUS_OK;
	}
	if (!at || strncmp(at, "..", 2) != 0 || (at[2] == '\0' && open) ||
		(at[2] && (!(at = date_parse(at + 2, &dates.last)) || *at)))
		return bad(err, field, element, text,
			"write 2026-12-24, 2026-12-24..2027-01-02, or one end open: 2026-12-24..");
	if (dates.first > dates.last)
		return bad(err, field, element, text, "reversed: the earlier date comes first");
	*ret_dates = dates;
	return STATUS_OK;
}

static enum status parse_date_list(const char *field, const char *const *texts, size_t count,
	struct schedule_dates **ret_dates, size_t *ret_count, struct error *err)
{
	enum status status = STATUS_OK;
	if (count > SCHEDULE_DATES_MAX)
		return error_field(
			err, field, "%zu of them, at most %d", count, SCHEDULE_DATES_MAX);
	if (count == 0)
		return STATUS_OK;
	*ret_dates = calloc(count, sizeof **ret_dates);
	if (!*ret_dates)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < count && !status; i++)
		status = parse_dates(field, texts[i], i, &(*ret_dates)[i], err);
	*ret_count = count;
	return status;
}

/* ---- asking ---- */

static bool blocks_have(const struct schedule *schedule, int minute)
{
	if (schedule->block_count == 0)
		return true;
	for (size_t i = 0; i < schedule->block_count; i++) {
		const struct schedule_block *block = &schedule->blocks[i];
		if ((minute >= block->first && minute < block->last) ||
			minute + WEEK_MINUTES < block->last)
			return true;
	}
	return false;
}

static bool dates_have(const struct schedule_dates *dates, size_t count, int64_t day)
{
	for (size_t i = 0; i < count; i++)
		if (day >= dates[i].first && day <= dates[i].last)
			return true;
	return false;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Local time in seconds since 1970-01-01 00:00 local. */
static bool is_active_local(const struct schedule *schedule, int64_t local_s)
{
	int64_t day = floor_div(local_s, DAY_S);
	int64_t weekday = ((day + 3) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
	int minute = (int)(weekday * DAY_MINUTES + (local_s - day * DAY_S) / 60);
	return blocks_have(schedule, minute) &&
		(schedule->date_count == 0 ||
			dates_have(schedule->dates, schedule->date_count, day)) &&
		!dates_have(schedule->except, schedule->except_count, day);
}

static int64_t offset_at(const struct schedule *schedule, int64_t at_s)
{
	return schedule->zone ? zone_offset(schedule->zone, at_s) : 0;
}

bool schedule_is_active(const struct schedule *schedule, int64_t at_us)
{
	int64_t at_s = floor_div(at_us, 1000000);
	return is_active_local(schedule, at_s + offset_at(schedule, at_s));
}

/* ---- looking ahead ---- */

/* Local minutes of the week until the next begin or end of a block; a week at most. */
static int next_edge(const struct schedule *schedule, int minute)
{
	int nearest = WEEK_MINUTES;
	for (size_t i = 0; i < schedule->block_count; i++) {
		const int edges[] = {schedule->blocks[i].first % WEEK_MINUTES,
			schedule->blocks[i].last % WEEK_MINUTES};
		for (size_t j = 0; j < 2; j++) {
			int distance = (edges[j] - minute + WEEK_MINUTES - 1) % WEEK_MINUTES + 1;
			if (distance < nearest)
				nearest = distance;
		}
	}
	return nearest;
}

/* The first moment after at_s at which the zone's offset is another one; it is another at end_s. */
static int64_t find_transition(const struct schedule *schedule, int64_t at_s, int64_t end_s)
{
	int64_t before = offset_at(schedule, at_s);
	while (end_s - at_s > 1) {
		int64_t middle = at_s + (end_s - at_s) / 2;
		if (offset_at(schedule, middle) == before)
			at_s = middle;
		else
			end_s = middle;
	}
	return end_s;
}

/* The next moment at which something about the local time changes. */
static int64_t next_step(const struct schedule *schedule, int64_t at_s)
{
	int64_t offset = offset_at(schedule, at_s);
	int64_t local = at_s + offset, day = floor_div(local, DAY_S);
	int64_t weekday = ((day + 3) % 7 + 7) % 7;
	int64_t minute = (local - day * DAY_S) / 60;
	int64_t next = (day + 1) * DAY_S; /* midnight: of dates, and to look at the offset daily */
	if (schedule->block_count > 0) {
		int edge = next_edge(schedule, (int)(weekday * DAY_MINUTES + minute));
		int64_t local_edge = day * DAY_S + (minute + edge) * 60;
		if (local_edge < next)
			next = local_edge;
	}
	next -= offset;
	if (offset_at(schedule, next) != offset)
		next = find_transition(schedule, at_s, next);
	return next;
}

int64_t schedule_next_change(const struct schedule *schedule, int64_t at_us)
{
	int64_t at_s = floor_div(at_us, 1000000);
	bool now = schedule_is_active(schedule, at_us);
	if (schedule->block_count == 0 && schedule->date_count == 0 && schedule->except_count == 0)
		return INT64_MAX;
	for (int i = 0; i < STEPS_MAX; i++) {
		at_s = next_step(schedule, at_s);
		if (is_active_local(schedule, at_s + offset_at(schedule, at_s)) != now)
			break;
	}
	return at_s * 1000000;
}

/* ---- whole ---- */

static int compare_dates(const void *a, const void *b)
{
	const struct schedule_dates *x = a, *y = b;
	return (x->first > y->first) - (x->first < y->first);
}

/* Sorted and disjoint: what is asked of them later is a walk. */
static void normalize_dates(struct schedule_dates *dates, size_t *count)
{
	size_t kept = 0;
	if (*count == 0)
		return;
	qsort(dates, *count, sizeof *dates, compare_dates);
	for (size_t i = 1; i < *count; i++) {
		if (dates[i].first > dates[kept].last + 1)
			dates[++kept] = dates[i];
		else if (dates[i].last > dates[kept].last)
			dates[kept].last = dates[i].last;
	}
	*count = kept + 1;
}

/* A bit for each weekday on which some block has a minute. */
static unsigned weekdays_of(const struct schedule *schedule)
{
	unsigned days = schedule->block_count == 0 ? 0x7f : 0;
	for (size_t i = 0; i < schedule->block_count; i++)
		for (int at = schedule->blocks[i].first; at < schedule->blocks[i].last;
			at = (at / DAY_MINUTES + 1) * DAY_MINUTES)
			days |= 1U << at / DAY_MINUTES % 7;
	return days;
}

/* Of the days from `first` to `last` some has a block? A week has each of them. */
static bool days_have_block(unsigned weekdays, int64_t first, int64_t last)
{
	for (int64_t day = first; day <= last && day < first + 7; day++)
		if (weekdays & 1U << ((day + 3) % 7 + 7) % 7)
			return true;
	return false;
}

/* The days of a range less those that are excepted; `*except` goes on where the range before
 * stopped. */
static bool range_is_possible(const struct schedule *schedule, unsigned weekdays,
	const struct schedule_dates *range, size_t *except)
{
	int64_t day = range->first > 0 ? range->first : 0; /* no decision is older than 1970 */
	while (*except < schedule->except_count && schedule->except[*except].last < day)
		++*except;
	for (size_t i = *except; day <= range->last; i++) {
		bool is_free =
			i >= schedule->except_count || schedule->except[i].first > range->last;
		int64_t last = is_free ? range->last : schedule->except[i].first - 1;
		if (days_have_block(weekdays, day, last))
			return true;
		if (is_free)
			break;
		day = schedule->except[i].last + 1;
		*except = i;
	}
	return false;
}

static bool is_possible(const struct schedule *schedule)
{
	const struct schedule_dates always = {INT64_MIN / 2, INT64_MAX / 2};
	unsigned weekdays = weekdays_of(schedule);
	size_t except = 0;
	if (schedule->date_count == 0)
		return range_is_possible(schedule, weekdays, &always, &except);
	for (size_t i = 0; i < schedule->date_count; i++)
		if (range_is_possible(schedule, weekdays, &schedule->dates[i], &except))
			return true;
	return false;
}

static enum status parse_blocks(
	const struct schedule_texts *texts, struct schedule *schedule, struct error *err)
{
	enum status status = STATUS_OK;
	if (texts->weekly_count > SCHEDULE_BLOCKS_MAX)
		return error_field(err, "weekly", "%zu blocks, at most %d", texts->weekly_count,
			SCHEDULE_BLOCKS_MAX);
	if (texts->weekly_count == 0)
		return STATUS_OK;
	schedule->blocks = calloc(texts->weekly_count * 7, sizeof *schedule->blocks);
	if (!schedule->blocks)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < texts->weekly_count && !status; i++)
		status = parse_week(texts->weekly[i], i, schedule, err);
	return status;
}

enum status schedule_parse(
	const struct schedule_texts *texts, struct schedule *ret_schedule, struct error *err)
{
	struct schedule schedule = {0};
	enum status status = STATUS_OK;
	if (texts->time_zone[0] && !(schedule.zone = zone_new(texts->time_zone)))
		status = error_field(err, "time_zone",
			"\"%.60s\" is not in this host's time zone database: write a name like "
			"Europe/Berlin (package tzdata)",
			texts->time_zone);
	if (!status)
		status = parse_blocks(texts, &schedule, err);
	if (!status)
		status = parse_date_list("dates", texts->dates, texts->date_count, &schedule.dates,
			&schedule.date_count, err);
	if (!status)
		status = parse_date_list("except_dates", texts->except_dates, texts->except_count,
			&schedule.except, &schedule.except_count, err);
	normalize_dates(schedule.dates, &schedule.date_count);
	normalize_dates(schedule.except, &schedule.except_count);
	if (!status && !is_possible(&schedule))
		status = error_field(err, "dates",
			"no minute is left: weekly, dates and except_dates exclude each other");
	if (status)
		schedule_fini(&schedule);
	else
		*ret_schedule = schedule;
	return status;
}
