/* The single parsers and formatters of durations, sizes and numbers, declared in common/config.h.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/config.h"

#define WORD_MAX 64

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit duration_units[] = {
	{"ms", 1},
	{"s", 1000},
	{"m", 60 * 1000},
	{"h", 3600 * 1000},
	{"d", 86400 * 1000},
};

/* Reads decimal digits; false when there is none or the number exceeds 64 bits. */
static bool read_digits(const char **at, uint64_t *ret_number)
{
	uint64_t number = 0;
	const char *p = *at;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(number, 10, &number) ||
			__builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
			return false;
	}
	*at = p;
	*ret_number = number;
	return true;
}

static const struct unit *read_unit(const char **at)
{
	size_t length = 0;

	while (isalpha((unsigned char)(*at)[length]))
		length++;
	for (size_t i = 0; i < sizeof(duration_units) / sizeof(duration_units[0]); i++) {
		if (strlen(duration_units[i].name) == length &&
			memcmp(duration_units[i].name, *at, length) == 0) {
			*at += length;
			return &duration_units[i];
		}
	}
	return NULL;
}

/* Up to three decimals, as thousandths: ".5" is 500. */
static bool read_decimals(const char **at, uint64_t *ret_thousandths)
{
	uint64_t scale = 100, value = 0;

	*ret_thousandths = 0;
	if (**at != '.')
		return true;
	(*at)++;
	if (!isdigit((unsigned char)**at))
		return false;
	for (; isdigit((unsigned char)**at); (*at)++) {
		if (scale == 0)
			return false;
		value += (uint64_t)(**at - '0') * scale;
		scale /= 10;
	}
	*ret_thousandths = value;
	return true;
}

static bool read_duration_part(const char **at, uint64_t *total)
{
	uint64_t whole, thousandths, part;
	const struct unit *unit;

	if (!read_digits(at, &whole) || !read_decimals(at, &thousandths))
		return false;
	unit = read_unit(at);
	if (!unit || __builtin_mul_overflow(whole, unit->factor, &part))
		return false;
	return !__builtin_add_overflow(*total, part, total) &&
		!__builtin_add_overflow(*total, thousandths * unit->factor / 1000, total);
}

enum status parse_duration(const char *text, uint64_t *ret_ms, struct error *err)
{
	const char *at = text;
	uint64_t total = 0;

	do {
		if (!read_duration_part(&at, &total))
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"\"%.64s\" is not a duration; write a number and a unit (ms, s, m, "
				"h, d), such as 500ms, 60s or 1m30s",
				text);
	} while (*at);
	*ret_ms = total;
	return STATUS_OK;
}

enum status parse_size(const char *text, uint64_t *ret_bytes, struct error *err)
{
	static const char units[] = "kmg";
	const char *at = text, *unit;
	uint64_t bytes;
	bool ok = read_digits(&at, &bytes);

	if (ok && *at) {
		unit = strchr(units, tolower((unsigned char)*at));
		ok = unit && at[1] == '\0' &&
			!__builtin_mul_overflow(
				bytes, (uint64_t)1 << (10 * (unit - units + 1)), &bytes);
	}
	if (!ok)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"\"%.64s\" is not a size; write bytes, or a number with k, m or g, such as "
			"64k or 16m",
			text);
	*ret_bytes = bytes;
	return STATUS_OK;
}

static bool read_hex(const char *text, uint64_t *ret_number)
{
	char *end;

	if (strspn(text, "0123456789abcdefABCDEF") > 16 || !isxdigit((unsigned char)*text))
		return false;
	*ret_number = strtoull(text, &end, 16);
	return *end == '\0';
}

enum status parse_number(
	const char *text, uint64_t min, uint64_t max, uint64_t *ret_number, struct error *err)
{
	const char *at = text;
	uint64_t number;
	bool ok;

	if (strncasecmp(text, "0x", 2) == 0)
		ok = read_hex(text + 2, &number);
	else
		ok = read_digits(&at, &number) && *at == '\0';
	if (!ok)
		return error_set(
			err, STATUS_INVALID_ARGUMENT, "\"%.64s\" is not a whole number", text);
	if (number < min || number > max)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%.64s is outside %" PRIu64 " to %" PRIu64, text, min, max);
	*ret_number = number;
	return STATUS_OK;
}

void format_duration(uint64_t ms, char *text, size_t size)
{
	uint64_t seconds = ms / 1000, tenths = ms % 1000 / 100;

	if (ms < 1000 && ms > 0)
		snprintf(text, size, "%" PRIu64 "ms", ms);
	else if (seconds < 60 && tenths)
		snprintf(text, size, "%" PRIu64 ".%" PRIu64 "s", seconds, tenths);
	else if (seconds < 60)
		snprintf(text, size, "%" PRIu64 "s", seconds);
	else if (seconds < 3600 && seconds % 60)
		snprintf(text, size, "%" PRIu64 "m%" PRIu64 "s", seconds / 60, seconds % 60);
	else if (seconds < 3600)
		snprintf(text, size, "%" PRIu64 "m", seconds / 60);
	else if (seconds < 86400 && seconds % 3600 / 60)
		snprintf(text, size, "%" PRIu64 "h%" PRIu64 "m", seconds / 3600,
			seconds % 3600 / 60);
	else if (seconds < 86400)
		snprintf(text, size, "%" PRIu64 "h", seconds / 3600);
	else if (seconds % 86400 / 3600)
		snprintf(text, size, "%" PRIu64 "d%" PRIu64 "h", seconds / 86400,
			seconds % 86400 / 3600);
	else
		snprintf(text, size, "%" PRIu64 "d", seconds / 86400);
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/* Levenshtein's distance, one row kept; words longer than WORD_MAX are far from everything. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t row[WORD_MAX + 1], a_length = strlen(a), b_length = strlen(b), diagonal, above;

	if (a_length > WORD_MAX || b_length > WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_length; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			above = row[j];
			row[j] = min3(above + 1, row[j - 1] + 1,
				diagonal +
					(tolower((unsigned char)a[i - 1]) !=
						tolower((unsigned char)b[j - 1])));
			diagonal = above;
		}
	}
	return row[b_length];
}

const char *nearest_word(const char *word, const char *const *words)
{
	size_t length = strlen(word), best = length / 3 + 2, distance;
	const char *nearest = NULL;

	for (; *words; words++) {
		distance = edit_distance(word, *words);
		if (distance < best && distance < length) {
			best = distance;
			nearest = *words;
		}
	}
	return nearest;
}
