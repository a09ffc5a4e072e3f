/* Sets of addresses as sorted ranges, IPv4 and IPv6 apart. Pure. */
#ifndef POSTERN_SERVER_POLICY_RANGES_H
#define POSTERN_SERVER_POLICY_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/error.h"

struct range4 {
	uint32_t first, last; /* host order */
};
struct range6 {
	unsigned __int128 first, last;
};

/* Sorted, disjoint, not adjacent, once ranges_normalize() was called. */
struct ranges {
	struct range4 *v4;
	struct range6 *v6;
	size_t v4_count, v6_count, v4_capacity, v6_capacity;
};

void ranges_fini(struct ranges *ranges);
/* "10.0.0.0/8", "10.1.1.1-10.1.1.9", "fd77::5", also bracketed IPv6. INVALID_ARGUMENT without a
 * field: what is wrong with the text (host bits set, reversed, mixed families, ...). */
enum status ranges_add_text(struct ranges *ranges, const char *text, struct error *err);
bool ranges_add(struct ranges *ranges, const struct addr *first,
	const struct addr *last); /* false: memory */
bool ranges_add_all(struct ranges *ranges, const struct ranges *more); /* false: memory */
void ranges_normalize(struct ranges *ranges);
bool ranges_is_empty(const struct ranges *ranges);
/* Of normalized ones: binary search. */
bool ranges_contain(const struct ranges *ranges, const struct addr *addr);
/* Every address of the family (AF as struct addr's)? Any of it? */
bool ranges_cover_family(const struct ranges *ranges, enum addr_family family);
bool ranges_touch_family(const struct ranges *ranges, enum addr_family family);

#endif
