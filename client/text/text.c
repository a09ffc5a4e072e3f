#include "client/text/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/config.h"

size_t text_utf8_length(const uint8_t *bytes, size_t size)
{
	if (size == 0)
		return 0;
	uint8_t first = bytes[0];
	size_t n = first < 0x80 ? 1
		: first < 0xc2  ? 0
		: first < 0xe0  ? 2
		: first < 0xf0  ? 3
		: first < 0xf5  ? 4
				: 0;
	if (n == 0 || n > size)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, and what lies past U+10FFFF. */
	if ((first == 0xe0 && bytes[1] < 0xa0) || (first == 0xed && bytes[1] > 0x9f) ||
		(first == 0xf0 && bytes[1] < 0x90) || (first == 0xf4 && bytes[1] > 0x8f))
		return 0;
	return n;
}

bool text_is_utf8(const uint8_t *bytes, size_t size)
{
	for (size_t at = 0; at < size;) {
		size_t n = text_utf8_length(bytes + at, size - at);
		if (n == 0)
			return false;
		at += n;
	}
	return true;
}

void text_escape(const void *bytes, size_t length, char *text, size_t size)
{
	const uint8_t *in = bytes;
	size_t used = 0;

	for (size_t at = 0; at < length;) {
		size_t n = text_utf8_length(in + at, length - at);
		bool control = n == 0 || (n == 1 && (in[at] < 0x20 || in[at] == 0x7f)) ||
			(n == 2 && in[at] == 0xc2 && in[at + 1] < 0xa0);
		size_t step = n == 0 ? 1 : n;
		size_t need = control ? 4 * step : step;

		if (need >= size - used)
			break;
		if (!control)
			memcpy(text + used, in + at, step);
		else
			for (size_t i = 0; i < step; i++)
				snprintf(text + used + 4 * i, 5, "\\x%02x", in[at + i]);
		used += need;
		at += step;
	}
	text[used] = '\0';
}

size_t text_width(const char *text)
{
	size_t width = 0;

	for (; *text != '\0'; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

void text_hex(const uint8_t *bytes, size_t size, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < size; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	text[2 * size] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool text_parse_hex(const char *text, uint8_t *ret_bytes, size_t size)
{
	if (strlen(text) != 2 * size)
		return false;
	for (size_t i = 0; i < 2 * size; i++)
		if (hex_digit(text[i]) < 0)
			return false;
	for (size_t i = 0; i < size; i++)
		ret_bytes[i] = (uint8_t)(hex_digit(text[2 * i]) * 16 + hex_digit(text[2 * i + 1]));
	return true;
}

void text_base64(const uint8_t *bytes, size_t size, char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (; size > 0; text += 4) {
		size_t n = size < 3 ? size : 3;
		uint32_t group = (uint32_t)bytes[0] << 16 | (n > 1 ? (uint32_t)bytes[1] << 8 : 0) |
			(n > 2 ? bytes[2] : 0);

		text[0] = digits[group >> 18];
		text[1] = digits[group >> 12 & 63];
		text[2] = n > 1 ? digits[group >> 6 & 63] : '=';
		text[3] = n > 2 ? digits[group & 63] : '=';
		bytes += n;
		size -= n;
	}
	*text = '\0';
}

void text_time(int64_t real_us, bool with_ms, char text[static TEXT_TIME_SIZE])
{
	time_t seconds = (time_t)(real_us / 1000000);
	struct tm tm;
	char whole[24];

	if (real_us <= 0 || localtime_r(&seconds, &tm) == NULL ||
		strftime(whole, sizeof(whole), "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(text, TEXT_TIME_SIZE, "-");
	else if (with_ms)
		snprintf(text, TEXT_TIME_SIZE, "%s.%03d", whole, (int)(real_us % 1000000 / 1000));
	else
		snprintf(text, TEXT_TIME_SIZE, "%s", whole);
}

/* ".123456" behind the seconds; nothing when there is no point. */
static bool parse_fraction(const char **at, int64_t *ret_us)
{
	int64_t unit = 100000;
	int64_t us = 0;
	const char *p = *at;

	if (*p != '.') {
		*ret_us = 0;
		return true;
	}
	for (p++; *p >= '0' && *p <= '9'; p++) {
		us += (*p - '0') * unit;
		unit /= 10;
	}
	if (p == *at + 1)
		return false;
	*at = p;
	*ret_us = us;
	return true;
}

/* "", "Z" or "+01:30": true with the seconds east of Greenwich; *ret_local when the text names no
 * zone. */
static bool parse_zone(const char *at, bool *ret_local, long *ret_east)
{
	int hours, minutes;
	char end;

	*ret_local = *at == '\0';
	*ret_east = 0;
	if (*at == '\0' || strcmp(at, "Z") == 0)
		return true;
	if ((*at != '+' && *at != '-') || strlen(at) != 6 ||
		sscanf(at + 1, "%2d:%2d%c", &hours, &minutes, &end) != 2 || hours < 0 ||
		hours > 14 || minutes < 0 || minutes > 59)
		return false;
	*ret_east = (hours * 60L + minutes) * 60L * (*at == '-' ? -1 : 1);
	return true;
}

static bool parse_clock(
	const char *text, struct tm *tm, int64_t *ret_us, bool *ret_local, long *ret_east)
{
	const char *rest = strptime(text, "%H:%M:%S", tm);

	*ret_us = 0;
	if (rest == NULL) {
		tm->tm_sec = 0;
		rest = strptime(text, "%H:%M", tm);
	} else if (!parse_fraction(&rest, ret_us)) {
		return false;
	}
	return rest != NULL && parse_zone(rest, ret_local, ret_east);
}

static bool parse_absolute(const char *text, int64_t now_us, int64_t *ret_real_us)
{
	time_t now = (time_t)(now_us / 1000000);
	struct tm tm;
	bool local = true;
	long east = 0;
	int64_t us = 0;

	if (localtime_r(&now, &tm) == NULL)
		return false;
	struct tm today = tm;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	const char *rest = strptime(text, "%Y-%m-%d", &tm);
	if (rest == NULL) {
		tm = today;
		if (!parse_clock(text, &tm, &us, &local, &east))
			return false;
	} else if (*rest == 'T' || *rest == ' ') {
		if (!parse_clock(rest + 1, &tm, &us, &local, &east))
			return false;
	} else if (*rest != '\0') {
		return false;
	}
	tm.tm_isdst = -1;
	time_t seconds = local ? mktime(&tm) : timegm(&tm) - east;
	*ret_real_us = (int64_t)seconds * 1000000 + us;
	return *ret_real_us >= 0;
}

enum status text_parse_time(
	const char *text, int64_t now_us, int64_t *ret_real_us, struct error *err)
{
	uint64_t ago_ms;

	if (strcmp(text, "now") == 0) {
		*ret_real_us = now_us;
		return STATUS_OK;
	}
	if (parse_duration(text, &ago_ms, NULL) == STATUS_OK) {
		if (ago_ms > (uint64_t)now_us / 1000)
			return error_set(
				err, STATUS_INVALID_ARGUMENT, "'%s' lies before 1970", text);
		*ret_real_us = now_us - (int64_t)ago_ms * 1000;
		return STATUS_OK;
	}
	if (parse_absolute(text, now_us, ret_real_us))
		return STATUS_OK;
	return error_set(err, STATUS_INVALID_ARGUMENT,
		"'%s' is no time: write how long ago (90s, 1h, 7d), a date (2026-11-24) or a date "
		"and time "
		"(2026-11-24T08:02:37, local unless Z or +01:00 follows)",
		text);
}

void text_bytes(uint64_t bytes, char text[static TEXT_AMOUNT_SIZE])
{
	static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
	double amount = (double)bytes;
	size_t unit = 0;

	if (bytes < 1000) {
		snprintf(text, TEXT_AMOUNT_SIZE, "%d B", (int)bytes);
		return;
	}
	for (amount /= 1000; amount >= 999.95 && unit < 5; unit++)
		amount /= 1000;
	snprintf(text, TEXT_AMOUNT_SIZE, "%.1f %s", amount, units[unit]);
}

void text_span(int64_t us, char text[static TEXT_AMOUNT_SIZE])
{
	if (us == 0)
		snprintf(text, TEXT_AMOUNT_SIZE, "0");
	else if (us < 1000)
		snprintf(text, TEXT_AMOUNT_SIZE, "%lld µs", (long long)us);
	else if (us < 1000000)
		snprintf(text, TEXT_AMOUNT_SIZE, "%.1f ms", (double)us / 1e3);
	else if (us < 60000000)
		snprintf(text, TEXT_AMOUNT_SIZE, "%.1f s", (double)us / 1e6);
	else
		format_duration((uint64_t)us / 1000, text, TEXT_AMOUNT_SIZE);
}
