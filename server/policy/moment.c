#include "server/policy/moment.h"

#include <stddef.h>

#define DAY_US (86400 * INT64_C(1000000))

/* Exactly `digits` digits. */
static const char *number(const char *at, int digits, int *ret_number)
{
	int value = 0;
	for (int i = 0; i < digits; i++, at++) {
		if (*at < '0' || *at > '9')
			return NULL;
		value = value * 10 + (*at - '0');
	}
	*ret_number = value;
	return at;
}

static bool is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_of_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* Proleptic Gregorian calendar; years from March on, so that the leap day is the last. */
static int64_t days_since_1970(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = y / 400, of_era = y - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

const char *date_parse(const char *text, int64_t *ret_days)
{
	int year, month, day;
	const char *at = number(text, 4, &year);
	if (!at || *at != '-' || !(at = number(at + 1, 2, &month)) || *at != '-' ||
		!(at = number(at + 1, 2, &day)))
		return NULL;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_of_month(year, month))
		return NULL;
	*ret_days = days_since_1970(year, month, day);
	return at;
}

/* "18:00:00.25" */
static const char *time_of_day(const char *at, int64_t *ret_us)
{
	int hour, minute, second;
	if (!(at = number(at, 2, &hour)) || *at != ':' || !(at = number(at + 1, 2, &minute)) ||
		*at != ':' || !(at = number(at + 1, 2, &second)))
		return NULL;
	if (hour > 23 || minute > 59 || second > 59)
		return NULL;
	int64_t us = ((hour * 60 + minute) * 60 + second) * INT64_C(1000000);
	if (*at == '.') {
		int64_t unit = 100000;
		if (at[1] < '0' || at[1] > '9')
			return NULL;
		for (at++; *at >= '0' && *at <= '9'; at++, unit /= 10)
			us += (*at - '0') * unit;
	}
	*ret_us = us;
	return at;
}

/* "Z", "+01:00" */
static const char *offset(const char *at, int64_t *ret_us)
{
	int hour, minute;
	*ret_us = 0;
	if (*at == 'Z' || *at == 'z')
		return at + 1;
	if (*at != '+' && *at != '-')
		return NULL;
	int sign = *at == '-' ? -1 : 1;
	if (!(at = number(at + 1, 2, &hour)) || *at != ':' || !(at = number(at + 1, 2, &minute)) ||
		hour > 23 || minute > 59)
		return NULL;
	*ret_us = sign * (hour * 60 + minute) * INT64_C(60000000);
	return at;
}

bool moment_parse(const char *text, bool date_too, int64_t *ret_us)
{
	int64_t days, time_us, offset_us;
	const char *at = date_parse(text, &days);
	if (!at)
		return false;
	if (*at == '\0' && date_too) {
		*ret_us = (days + 1) * DAY_US;
		return true;
	}
	if ((*at != 'T' && *at != 't' && *at != ' ') || !(at = time_of_day(at + 1, &time_us)) ||
		!(at = offset(at, &offset_us)) || *at)
		return false;
	*ret_us = days * DAY_US + time_us - offset_us;
	return true;
}
