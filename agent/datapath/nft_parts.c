/* What a door is made of in the kernel: names of maps, keys, data, shards, limits. Pure. */
#include <stdio.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"

#define WEEK_S (7U * 86400)
#define UNLIMITED_RATE 1000000000 /* a second: never runs out */
/* What a limit may hold, in seconds: the kernel keeps burst * unit in nanoseconds and subtracts
 * with a sign; beyond 63 bits it lets nobody in. */
#define BUCKET_S (INT64_MAX / 1000000000)

/* ---- names ---- */

static const struct {
	const char *prefix, *oneway_prefix;
	bool keyed_by_to, is_sharded, is_time;
} kinds[MAP_KINDS] = {
	[MAP_EXACT] = {"c", "o", false, true, false},
	[MAP_ANYBODY] = {"a", "ao", true, false, false},
	[MAP_WIDE_LIMIT] = {"wl", "wlo", false, false, false},
	[MAP_WIDE_COUNTER] = {"wc", "wco", false, false, false},
	[MAP_WIDE_GRANT] = {"wg", "wgo", false, false, false},
	[MAP_SNAT_PORT] = {"x", NULL, false, false, false},
	[MAP_SNAT] = {"y", NULL, false, false, false},
	[MAP_DNAT] = {"d", NULL, false, false, false},
	[MAP_DNAT_ANYBODY] = {"da", NULL, true, false, false},
	[MAP_EXACT_TIME] = {"tc", "to", false, true, true},
	[MAP_ANYBODY_TIME] = {"ta", "tao", true, false, true},
};

/* Those that admit, and their times. */
static bool has_translated(enum nft_map_kind kind)
{
	return kinds[kind].oneway_prefix != NULL;
}

static bool is_sharded(const struct nft_map *map)
{
	return kinds[map->kind].is_sharded && !map->translated;
}

bool nft_map_exists(enum nft_renewal renewal, const struct nft_map *map)
{
	return (!map->oneway || kinds[map->kind].oneway_prefix) &&
		(!map->translated || has_translated(map->kind)) &&
		(map->shard == 0 || is_sharded(map)) &&
		(renewal == NFT_RENEW_REPLACE || !kinds[map->kind].is_time);
}

bool nft_map_is_keyed_by_to(enum nft_map_kind kind)
{
	return kinds[kind].keyed_by_to;
}

void nft_map_name(char name[static 16], const struct nft_map *map)
{
	bool oneway = map->oneway && kinds[map->kind].oneway_prefix;
	const char *prefix = oneway ? kinds[map->kind].oneway_prefix : kinds[map->kind].prefix;
	char family = map->ipv6 ? '6' : '4';
	if (map->translated)
		snprintf(name, 16, "n%s%c", prefix, family);
	else if (is_sharded(map))
		snprintf(name, 16, "%s%c_%02x", prefix, family, map->shard & (NFT_SHARDS - 1));
	else
		snprintf(name, 16, "%s%c", prefix, family);
}

uint32_t nft_key_size(const struct nft_map *map)
{
	uint32_t address = map->ipv6 ? 16 : 4;
	return (nft_map_is_keyed_by_to(map->kind) ? 1 : 2) * address + (map->translated ? 12 : 8);
}

void nft_object_name(char name[static NFT_OBJECT_BYTES], const struct id *grant)
{
	char text[ID_TEXT_SIZE];
	id_format(grant, text);
	snprintf(name, NFT_OBJECT_BYTES, "g%s", text);
}

bool nft_object_grant(const char *name, struct id *ret_grant)
{
	return name[0] == 'g' && id_parse(name + 1, ret_grant);
}

/* ---- keys ---- */

/* from (NULL: none) . to . l4proto . port, laid out as in the registers */
static uint32_t lay_key(uint8_t key[static NFT_KEY_BYTES], const struct addr *from,
	const struct addr *to, uint8_t transport, uint16_t port)
{
	size_t size = addr_length(to), at = 0;
	memset(key, 0, NFT_KEY_BYTES);
	if (from) {
		memcpy(key, from->bytes, size);
		at = size;
	}
	memcpy(key + at, to->bytes, size);
	at += size;
	key[at] = transport;
	key[at + 4] = (uint8_t)(port >> 8);
	key[at + 5] = (uint8_t)port;
	return (uint32_t)at + 8;
}

/* . ct original proto-dst: where the flow knocked before it was translated */
static void add_outside_port(struct nft_part *part, uint16_t port)
{
	part->key[part->key_size] = (uint8_t)(port >> 8);
	part->key[part->key_size + 1] = (uint8_t)port;
	part->key_size += 4;
}

static uint32_t lay_endpoint(uint8_t data[static NFT_DATA_BYTES], const struct endpoint *endpoint)
{
	size_t size = addr_length(&endpoint->addr);
	memset(data, 0, NFT_DATA_BYTES);
	memcpy(data, endpoint->addr.bytes, size);
	data[size] = (uint8_t)(endpoint->port >> 8);
	data[size + 1] = (uint8_t)endpoint->port;
	return (uint32_t)size + 4;
}

/* ---- the kernel's jhash (include/linux/jhash.h, Bob Jenkins' lookup3), on bytes as the CPU loads
 * them ---- */

static uint32_t rotate(uint32_t word, unsigned shift)
{
	return word << shift | word >> (32 - shift);
}

static uint32_t word_at(const uint8_t *bytes)
{
	uint32_t word;
	memcpy(&word, bytes, sizeof word);
	return word;
}

/* For lengths that are multiples of four, which ours are. */
static uint32_t jhash(const uint8_t *bytes, uint32_t length, uint32_t seed)
{
	uint32_t a = 0xdeadbeefU + length + seed, b = a, c = a;
	while (length > 12) {
		a += word_at(bytes);
		b += word_at(bytes + 4);
		c += word_at(bytes + 8);
		a -= c, a ^= rotate(c, 4), c += b;
		b -= a, b ^= rotate(a, 6), a += c;
		c -= b, c ^= rotate(b, 8), b += a;
		a -= c, a ^= rotate(c, 16), c += b;
		b -= a, b ^= rotate(a, 19), a += c;
		c -= b, c ^= rotate(b, 4), b += a;
		length -= 12;
		bytes += 12;
	}
	if (length == 12)
		c += word_at(bytes + 8);
	if (length >= 8)
		b += word_at(bytes + 4);
	a += word_at(bytes);
	c ^= b, c -= rotate(b, 14);
	a ^= c, a -= rotate(c, 11);
	b ^= a, b -= rotate(a, 25);
	c ^= b, c -= rotate(b, 16);
	a ^= c, a -= rotate(c, 4);
	b ^= a, b -= rotate(a, 14);
	c ^= b, c -= rotate(b, 24);
	return c;
}

uint32_t nft_shard(const struct door *door)
{
	uint8_t key[NFT_KEY_BYTES];
	uint32_t size = lay_key(key, &door->from, &door->to.addr, door->transport, door->to.port);
	/* reciprocal_scale() of the kernel */
	return (uint32_t)((uint64_t)jhash(key, size, NFT_HASH_SEED) * NFT_SHARDS >> 32);
}

/* ---- shapes ---- */

static size_t port_count(const struct door *door)
{
	return door->to_port_last > door->to.port ? (size_t)(door->to_port_last - door->to.port) + 1
						  : 1;
}

size_t nft_key_count(const struct door *door)
{
	return (door->from_count ? door->from_count : 1) * port_count(door);
}

enum nft_shape nft_shape_of(const struct door *door)
{
	if (door->to.addr.family == ADDR_NONE)
		return SHAPE_REMAINS;
	if (door->from_count > 0 || port_count(door) > 1)
		return SHAPE_WIDE;
	return door->from.family == ADDR_NONE ? SHAPE_ANYBODY : SHAPE_EXACT;
}

static bool mixes_families(const struct door *door)
{
	uint8_t family = door->to.addr.family;
	bool mixes = (door->from.family != ADDR_NONE && door->from.family != family) ||
		(door->nat != DOOR_AS_IS && door->outside.addr.family != family);
	for (size_t i = 0; i < door->from_count; i++)
		mixes |= door->froms[i].family != family;
	return mixes;
}

const char *nft_refuse_door(const struct door *door)
{
	enum nft_shape shape = nft_shape_of(door);
	struct nft_limit limit;
	if (shape == SHAPE_REMAINS)
		return "it leads nowhere: name an address";
	if (mixes_families(door))
		return "its addresses are of different families";
	if (shape == SHAPE_WIDE && door->from_count == 0 && door->from.family == ADDR_NONE)
		return "a range of ports cannot be open to anybody: name who may come";
	if (nft_key_count(door) > NFT_KEYS_MOST)
		return "it has too many ports and remotes: ask for fewer";
	if (door->nat == DOOR_SNAT && door->from.family == ADDR_NONE)
		return "an external source address needs one client";
	if (door->nat == DOOR_DNAT && (port_count(door) > 1 || door->outside.port == 0))
		return "an external address that leads inside needs one port on either side";
	if (!nft_limit_of(door->uses, door->timeout_ms, &limit))
		return "the kernel cannot count so many connections over so long a lifetime: ask "
		       "for fewer, or for unlimited";
	return NULL;
}

/* ---- parts ---- */

static size_t add_section(
	struct nft_section *sections, size_t at, enum nft_map_kind kind, size_t count)
{
	sections[at] = (struct nft_section){kind, count};
	return at + 1;
}

size_t nft_sections(enum nft_renewal renewal, const struct door *door,
	struct nft_section sections[static NFT_SECTIONS_MOST])
{
	enum nft_shape shape = nft_shape_of(door);
	size_t n = 0, keys = nft_key_count(door);
	if (shape == SHAPE_REMAINS)
		return 0;
	if (shape == SHAPE_WIDE) {
		n = add_section(sections, n, MAP_WIDE_LIMIT, keys);
		n = add_section(sections, n, MAP_WIDE_COUNTER, keys);
		n = add_section(sections, n, MAP_WIDE_GRANT, keys);
	} else {
		bool exact = shape == SHAPE_EXACT;
		n = add_section(sections, n, exact ? MAP_EXACT : MAP_ANYBODY, 1);
		if (renewal == NFT_RENEW_REPLACE)
			n = add_section(sections, n, exact ? MAP_EXACT_TIME : MAP_ANYBODY_TIME, 1);
	}
	if (door->nat == DOOR_SNAT)
		n = add_section(sections, n, door->outside.port ? MAP_SNAT_PORT : MAP_SNAT, keys);
	else if (door->nat == DOOR_DNAT && door->outside.addr.family != ADDR_NONE)
		n = add_section(
			sections, n, shape == SHAPE_ANYBODY ? MAP_DNAT_ANYBODY : MAP_DNAT, keys);
	return n;
}

void nft_part(
	const struct door *door, enum nft_map_kind kind, size_t index, struct nft_part *ret_part)
{
	size_t ports = port_count(door);
	const struct addr *from = door->from_count ? &door->froms[index / ports] : &door->from;
	uint16_t port = (uint16_t)(door->to.port + index % ports);
	bool is_dnat = kind == MAP_DNAT || kind == MAP_DNAT_ANYBODY;
	struct nft_part part = {
		.map = {.kind = kind,
			.ipv6 = door->to.addr.family == ADDR_IPV6,
			.oneway = door->oneway && kinds[kind].oneway_prefix,
			.translated = door->nat == DOOR_DNAT && has_translated(kind)}};
	part.key_size = lay_key(part.key, kinds[kind].keyed_by_to ? NULL : from,
		is_dnat ? &door->outside.addr : &door->to.addr, door->transport,
		is_dnat ? door->outside.port : port);
	if (part.map.translated)
		add_outside_port(&part, door->outside.port);
	if (is_sharded(&part.map))
		part.map.shard = nft_shard(door);
	if (is_dnat) {
		part.data_size = lay_endpoint(part.data, &door->to);
	} else if (kind == MAP_SNAT_PORT) {
		part.data_size = lay_endpoint(part.data, &door->outside);
	} else if (kind == MAP_SNAT) {
		part.data_size = (uint32_t)addr_length(&door->outside.addr);
		memcpy(part.data, door->outside.addr.bytes, part.data_size);
	} else if (kind == MAP_EXACT || kind == MAP_ANYBODY || kind == MAP_WIDE_GRANT) {
		part.data_size = sizeof door->grant.bytes;
		memcpy(part.data, door->grant.bytes, sizeof door->grant.bytes);
	}
	*ret_part = part;
}

/* ---- limits ---- */

bool nft_limit_of(uint64_t uses, uint64_t timeout_ms, struct nft_limit *ret_limit)
{
	/* The bucket fills up by one in unit_s: longer than the door can last, or one more would
	 * pass. */
	uint64_t unit_s = timeout_ms / 1000 + 60;
	if (uses == 0) {
		*ret_limit = (struct nft_limit){UNLIMITED_RATE, 1, UNLIMITED_RATE};
		return true;
	}
	if (unit_s < WEEK_S && uses <= BUCKET_S / WEEK_S)
		unit_s = WEEK_S; /* nft prints it as 1/week */
	if (uses > UINT32_MAX || unit_s > BUCKET_S / uses)
		return false;
	*ret_limit = (struct nft_limit){1, unit_s, (uint32_t)uses};
	return true;
}

bool nft_limit_outlasts_renewals(const struct door *door)
{
	uint64_t most = door->uses > door->max_connections ? door->uses : door->max_connections;
	return most <= BUCKET_S / WEEK_S;
}

/* ---- comments ---- */

void nft_describe_nat(char text[static NFT_COMMENT_BYTES], const struct door *door)
{
	char outside[ENDPOINT_TEXT_SIZE];
	text[0] = '\0';
	if (door->nat == DOOR_AS_IS)
		return;
	if (door->outside.port)
		endpoint_format(&door->outside, outside);
	else
		addr_format(&door->outside.addr, outside);
	snprintf(text, NFT_COMMENT_BYTES, "%s %s", door->nat == DOOR_SNAT ? "snat" : "dnat",
		outside);
}

void nft_understand_nat(const char *text, struct door *door)
{
	struct endpoint outside;
	uint8_t nat = strncmp(text, "snat ", 5) == 0 ? DOOR_SNAT
		: strncmp(text, "dnat ", 5) == 0     ? DOOR_DNAT
						     : DOOR_AS_IS;
	if (nat == DOOR_AS_IS || !endpoint_parse(text + 5, false, &outside))
		return;
	door->nat = nat;
	door->outside = outside;
}
