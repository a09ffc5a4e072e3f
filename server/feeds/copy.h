/* What a feed holds: from a body to ranges, and how ranges are kept in the database. Pure. */
#ifndef POSTERN_SERVER_FEEDS_COPY_H
#define POSTERN_SERVER_FEEDS_COPY_H

#include "server/policy/ranges.h"

#define COPY_RANGES_MAX 4000000

/* An address, network or range a line; "#" and ";" begin comments. What is none of these makes the
 * whole body useless: the error names the line. `ret_ranges` is normalized. */
enum status copy_parse_text(
	const char *bytes, size_t size, struct ranges *ret_ranges, struct error *err);
/* An array of texts, or with `key` of objects that have the text at it. `pointer`: RFC 6901, "" =
 * the whole document. */
enum status copy_parse_json(const char *bytes, size_t size, const char *pointer, const char *key,
	struct ranges *ret_ranges, struct error *err);

/* malloc'd; NULL: memory. */
uint8_t *copy_pack(const struct ranges *ranges, size_t *ret_size);
/* False: damaged, or memory. */
bool copy_unpack(const uint8_t *bytes, size_t size, struct ranges *ret_ranges);

#endif
