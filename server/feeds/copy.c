#include "server/feeds/copy.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 256

static enum status too_many(struct error *err)
{
	return error_set(err, STATUS_INVALID_ARGUMENT, "more than %d networks", COPY_RANGES_MAX);
}

static enum status finish(enum status status, struct ranges *ranges, struct ranges *ret_ranges)
{
	if (status) {
		ranges_fini(ranges);
		return status;
	}
	ranges_normalize(ranges);
	*ret_ranges = *ranges;
	return STATUS_OK;
}

/* ---- text ---- */

/* The line without comment and blanks; false: it is longer than any address. */
static bool trim(const char *at, size_t length, char line[static LINE_MAX_BYTES])
{
	size_t end = 0;
	while (end < length && at[end] != '#' && at[end] != ';')
		end++;
	while (end > 0 && strchr(" \t\r", at[end - 1]))
		end--;
	while (end > 0 && strchr(" \t", at[0])) {
		at++;
		end--;
	}
	if (end >= LINE_MAX_BYTES || memchr(at, '\0', end))
		return false;
	memcpy(line, at, end);
	line[end] = '\0';
	return true;
}

enum status copy_parse_text(
	const char *bytes, size_t size, struct ranges *ret_ranges, struct error *err)
{
	const char *at = bytes, *end = bytes + size;
	struct ranges ranges = {0};
	enum status status = STATUS_OK;
	char line[LINE_MAX_BYTES];
	size_t number = 0, count = 0;
	if (size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
		at += 3;
	while (at < end && !status) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t length = (size_t)((newline ? newline : end) - at);
		struct error cause;
		number++;
		if (!trim(at, length, line))
			status = error_set(err, STATUS_INVALID_ARGUMENT,
				"line %zu is not an address: no address is so long", number);
		else if (line[0] && ++count > COPY_RANGES_MAX)
			status = too_many(err);
		else if (line[0] && (status = ranges_add_text(&ranges, line, &cause)))
			error_set(err, status, "line %zu: %s", number, cause.text);
		at += length + 1;
	}
	return finish(status, &ranges, ret_ranges);
}

/* ---- JSON ---- */

/* "~1" is a slash and "~0" a tilde (RFC 6901). */
static bool unescape(const char *at, size_t length, char token[static 256])
{
	size_t used = 0;
	for (size_t i = 0; i < length; i++) {
		char c = at[i];
		if (c == '~' && i + 1 < length && (at[i + 1] == '0' || at[i + 1] == '1'))
			c = at[++i] == '0' ? '~' : '/';
		if (used == 255)
			return false;
		token[used++] = c;
	}
	token[used] = '\0';
	return true;
}

static const json_t *point_at(const json_t *value, const char *pointer)
{
	char token[256];
	while (value && *pointer == '/') {
		size_t length = strcspn(++pointer, "/");
		if (!unescape(pointer, length, token))
			return NULL;
		if (json_is_array(value))
			value = json_array_get(value, strtoul(token, NULL, 10));
		else
			value = json_object_get(value, token);
		pointer += length;
	}
	return value;
}

static enum status add_elements(
	const json_t *array, const char *key, struct ranges *ranges, struct error *err)
{
	size_t count = json_array_size(array);
	struct error cause;
	if (count > COPY_RANGES_MAX)
		return too_many(err);
	for (size_t i = 0; i < count; i++) {
		const json_t *element = json_array_get(array, i);
		if (key[0])
			element = json_object_get(element, key);
		if (!json_is_string(element))
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"element %zu of the array has no text%s%s", i, key[0] ? " at " : "",
				key);
		enum status status = ranges_add_text(ranges, json_string_value(element), &cause);
		if (status)
			return error_set(err, status, "element %zu: %s", i, cause.text);
	}
	return STATUS_OK;
}

enum status copy_parse_json(const char *bytes, size_t size, const char *pointer, const char *key,
	struct ranges *ret_ranges, struct error *err)
{
	struct ranges ranges = {0};
	json_error_t cause;
	json_t *root = json_loadb(bytes, size, 0, &cause);
	if (!root)
		return error_set(err, STATUS_INVALID_ARGUMENT, "not JSON: line %d: %.100s",
			cause.line, cause.text);
	const json_t *array = point_at(root, pointer);
	enum status status = json_is_array(array)
		? add_elements(array, key, &ranges, err)
		: error_set(
			  err, STATUS_INVALID_ARGUMENT, "there is no array at \"%.100s\"", pointer);
	json_decref(root);
	return finish(status, &ranges, ret_ranges);
}

/* ---- in the database: counts and ranges, big-endian ---- */

static uint8_t *put(uint8_t *at, unsigned __int128 value, size_t bytes)
{
	for (size_t i = bytes; i > 0; i--, value >>= 8)
		at[i - 1] = (uint8_t)value;
	return at + bytes;
}

static unsigned __int128 get(const uint8_t **at, size_t bytes)
{
	unsigned __int128 value = 0;
	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | *(*at)++;
	return value;
}

uint8_t *copy_pack(const struct ranges *ranges, size_t *ret_size)
{
	size_t size = 8 + ranges->v4_count * 8 + ranges->v6_count * 32;
	uint8_t *bytes = malloc(size), *at = bytes;
	if (!bytes)
		return NULL;
	at = put(at, ranges->v4_count, 4);
	at = put(at, ranges->v6_count, 4);
	for (size_t i = 0; i < ranges->v4_count; i++)
		at = put(put(at, ranges->v4[i].first, 4), ranges->v4[i].last, 4);
	for (size_t i = 0; i < ranges->v6_count; i++)
		at = put(put(at, ranges->v6[i].first, 16), ranges->v6[i].last, 16);
	*ret_size = size;
	return bytes;
}

bool copy_unpack(const uint8_t *bytes, size_t size, struct ranges *ret_ranges)
{
	struct ranges ranges = {0};
	const uint8_t *at = bytes;
	if (size < 8)
		return false;
	ranges.v4_count = ranges.v4_capacity = (size_t)get(&at, 4);
	ranges.v6_count = ranges.v6_capacity = (size_t)get(&at, 4);
	if (size != 8 + ranges.v4_count * 8 + ranges.v6_count * 32)
		return false;
	ranges.v4 = malloc(ranges.v4_count * sizeof *ranges.v4 + 1);
	ranges.v6 = malloc(ranges.v6_count * sizeof *ranges.v6 + 1);
	if (!ranges.v4 || !ranges.v6) {
		ranges_fini(&ranges);
		return false;
	}
	for (size_t i = 0; i < ranges.v4_count; i++) {
		ranges.v4[i].first = (uint32_t)get(&at, 4);
		ranges.v4[i].last = (uint32_t)get(&at, 4);
	}
	for (size_t i = 0; i < ranges.v6_count; i++) {
		ranges.v6[i].first = get(&at, 16);
		ranges.v6[i].last = get(&at, 16);
	}
	ranges_normalize(&ranges);
	*ret_ranges = ranges;
	return true;
}
