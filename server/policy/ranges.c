#include "server/policy/ranges.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 wide; /* an IPv6 address in host order */

#define TEXT_MAX 96 /* two IPv6 addresses, a hyphen, brackets */

static uint32_t number4(const struct addr *addr)
{
	const uint8_t *b = addr->bytes;
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static wide number6(const struct addr *addr)
{
	wide number = 0;
	for (size_t i = 0; i < 16; i++)
		number = number << 8 | addr->bytes[i];
	return number;
}

void ranges_fini(struct ranges *ranges)
{
	free(ranges->v4);
	free(ranges->v6);
	*ranges = (struct ranges){0};
}

/* Room for one more. */
static bool grow(void **items, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return true;
	size_t more = *capacity ? *capacity * 2 : 4;
	void *grown = realloc(*items, more * size);
	if (!grown)
		return false;
	*items = grown;
	*capacity = more;
	return true;
}

static bool add4(struct ranges *ranges, uint32_t first, uint32_t last)
{
	void *items = ranges->v4;
	if (!grow(&items, ranges->v4_count, &ranges->v4_capacity, sizeof *ranges->v4))
		return false;
	ranges->v4 = items;
	ranges->v4[ranges->v4_count++] = (struct range4){first, last};
	return true;
}

static bool add6(struct ranges *ranges, wide first, wide last)
{
	void *items = ranges->v6;
	if (!grow(&items, ranges->v6_count, &ranges->v6_capacity, sizeof *ranges->v6))
		return false;
	ranges->v6 = items;
	ranges->v6[ranges->v6_count++] = (struct range6){first, last};
	return true;
}

bool ranges_add(struct ranges *ranges, const struct addr *first, const struct addr *last)
{
	return first->family == ADDR_IPV4 ? add4(ranges, number4(first), number4(last))
					  : add6(ranges, number6(first), number6(last));
}

bool ranges_add_all(struct ranges *ranges, const struct ranges *more)
{
	for (size_t i = 0; i < more->v4_count; i++)
		if (!add4(ranges, more->v4[i].first, more->v4[i].last))
			return false;
	for (size_t i = 0; i < more->v6_count; i++)
		if (!add6(ranges, more->v6[i].first, more->v6[i].last))
			return false;
	return true;
}

/* ---- text ---- */

/* Also in brackets; IPv4 written as IPv6 is refused, so that a prefix length means one thing. */
static bool parse_one(char *text, struct addr *ret_addr)
{
	size_t length = strlen(text);
	bool bracketed = length > 2 && text[0] == '[' && text[length - 1] == ']';
	if (bracketed) {
		text[length - 1] = '\0';
		text++;
	}
	if (!addr_parse(text, ret_addr))
		return false;
	bool colon = strchr(text, ':') != NULL;
	return colon ? ret_addr->family == ADDR_IPV6 : !bracketed;
}

static bool parse_length(const char *text, unsigned most, unsigned *ret_length)
{
	size_t length = strlen(text);
	unsigned value = 0;
	if (length == 0 || length > 3 || strspn(text, "0123456789") != length)
		return false;
	for (; *text; text++)
		value = value * 10 + (unsigned)(*text - '0');
	if (value > most)
		return false;
	*ret_length = value;
	return true;
}

/* What a prefix of that length keeps, and the rest. */
static void mask(
	const struct addr *addr, unsigned length, struct addr *ret_first, struct addr *ret_last)
{
	*ret_first = *ret_last = *addr;
	for (unsigned i = 0; i < addr_length(addr); i++) {
		unsigned kept = length > i * 8 ? length - i * 8 : 0;
		uint8_t host = kept >= 8 ? 0 : (uint8_t)(0xffU >> kept);
		ret_first->bytes[i] &= (uint8_t)~host;
		ret_last->bytes[i] |= host;
	}
}

static enum status bad(struct error *err, const char *text)
{
	return error_set(err, STATUS_INVALID_ARGUMENT,
		"\"%.90s\" is not an address, a network or a range: write 10.0.0.1, 10.0.0.0/8, "
		"fd00::/8 or 10.0.0.1-10.0.0.9",
		text);
}

static enum status add_network(
	struct ranges *ranges, char *copy, char *slash, const char *text, struct error *err)
{
	struct addr addr, first, last;
	unsigned length;
	*slash = '\0';
	if (!parse_one(copy, &addr))
		return bad(err, text);
	unsigned most = (unsigned)addr_length(&addr) * 8;
	if (!parse_length(slash + 1, most, &length))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"\"%.90s\": the prefix length is a number from 0 to %u", text, most);
	mask(&addr, length, &first, &last);
	if (!addr_equal(&addr, &first)) {
		char network[ADDR_TEXT_SIZE];
		addr_format(&first, network);
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"\"%.90s\" has bits behind its prefix: the network is %s/%u; for one "
			"address leave the length out",
			text, network, length);
	}
	if (!ranges_add(ranges, &first, &last))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	return STATUS_OK;
}

static enum status add_range(
	struct ranges *ranges, char *copy, char *hyphen, const char *text, struct error *err)
{
	struct addr first, last;
	*hyphen = '\0';
	if (!parse_one(copy, &first) || !parse_one(hyphen + 1, &last))
		return bad(err, text);
	if (first.family != last.family)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"\"%.90s\": one end is IPv4 and the other IPv6: write two ranges", text);
	if (addr_compare(&first, &last) > 0)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"\"%.90s\" is reversed: the lower address comes first", text);
	if (!ranges_add(ranges, &first, &last))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	return STATUS_OK;
}

enum status ranges_add_text(struct ranges *ranges, const char *text, struct error *err)
{
	char copy[TEXT_MAX];
	struct addr addr;
	size_t length = strlen(text);
	if (length >= sizeof copy)
		return bad(err, text);
	memcpy(copy, text, length + 1);
	char *slash = strchr(copy, '/'), *hyphen = strchr(copy, '-');
	if (slash && !hyphen)
		return add_network(ranges, copy, slash, text, err);
	if (hyphen)
		return add_range(ranges, copy, hyphen, text, err);
	if (!parse_one(copy, &addr))
		return bad(err, text);
	if (!ranges_add(ranges, &addr, &addr))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	return STATUS_OK;
}

/* ---- sorted ---- */

static int compare4(const void *a, const void *b)
{
	const struct range4 *x = a, *y = b;
	return (x->first > y->first) - (x->first < y->first);
}

static int compare6(const void *a, const void *b)
{
	const struct range6 *x = a, *y = b;
	return (x->first > y->first) - (x->first < y->first);
}

static void normalize4(struct ranges *ranges)
{
	struct range4 *v = ranges->v4;
	size_t kept = 0;
	if (ranges->v4_count == 0)
		return;
	qsort(v, ranges->v4_count, sizeof *v, compare4);
	for (size_t i = 1; i < ranges->v4_count; i++) {
		if (v[kept].last == UINT32_MAX || v[i].first <= v[kept].last + 1) {
			if (v[i].last > v[kept].last)
				v[kept].last = v[i].last;
		} else {
			v[++kept] = v[i];
		}
	}
	ranges->v4_count = kept + 1;
}

static void normalize6(struct ranges *ranges)
{
	struct range6 *v = ranges->v6;
	size_t kept = 0;
	if (ranges->v6_count == 0)
		return;
	qsort(v, ranges->v6_count, sizeof *v, compare6);
	for (size_t i = 1; i < ranges->v6_count; i++) {
		if (v[kept].last == ~(wide)0 || v[i].first <= v[kept].last + 1) {
			if (v[i].last > v[kept].last)
				v[kept].last = v[i].last;
		} else {
			v[++kept] = v[i];
		}
	}
	ranges->v6_count = kept + 1;
}

void ranges_normalize(struct ranges *ranges)
{
	normalize4(ranges);
	normalize6(ranges);
}

bool ranges_is_empty(const struct ranges *ranges)
{
	return ranges->v4_count == 0 && ranges->v6_count == 0;
}

static bool contain4(const struct ranges *ranges, uint32_t number)
{
	size_t low = 0, high = ranges->v4_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (ranges->v4[middle].last < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ranges->v4_count && ranges->v4[low].first <= number;
}

static bool contain6(const struct ranges *ranges, wide number)
{
	size_t low = 0, high = ranges->v6_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (ranges->v6[middle].last < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ranges->v6_count && ranges->v6[low].first <= number;
}

bool ranges_contain(const struct ranges *ranges, const struct addr *addr)
{
	if (addr->family == ADDR_IPV4)
		return contain4(ranges, number4(addr));
	return addr->family == ADDR_IPV6 && contain6(ranges, number6(addr));
}

bool ranges_cover_family(const struct ranges *ranges, enum addr_family family)
{
	if (family == ADDR_IPV4)
		return ranges->v4_count == 1 && ranges->v4[0].first == 0 &&
			ranges->v4[0].last == UINT32_MAX;
	return ranges->v6_count == 1 && ranges->v6[0].first == 0 && ranges->v6[0].last == ~(wide)0;
}

bool ranges_touch_family(const struct ranges *ranges, enum addr_family family)
{
	return family == ADDR_IPV4 ? ranges->v4_count > 0 : ranges->v6_count > 0;
}
