#include "server/grants/external.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define RANDOM_TRIES 32 /* in a range that is half full all miss once in 2^32 */

enum { KEY_SIZE = 17 + 2 + 1 };

struct busy_port {
	struct table_node node;
	struct busy_port *next;
	int64_t until_us;
	uint8_t key[KEY_SIZE];
};

static void key_of(const struct endpoint *endpoint, uint8_t transport, uint8_t key[static KEY_SIZE])
{
	key[0] = endpoint->addr.family;
	memcpy(key + 1, endpoint->addr.bytes, 16);
	key[17] = (uint8_t)(endpoint->port >> 8);
	key[18] = (uint8_t)endpoint->port;
	key[19] = transport;
}

static bool match_held(const struct table_node *node, const void *key, size_t size)
{
	const struct external_place *place = TABLE_OWNER(node, struct external_place, node);
	uint8_t own[KEY_SIZE];
	key_of(&place->endpoint, place->transport, own);
	return memcmp(own, key, size) == 0;
}

static bool match_busy(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct busy_port, node)->key, key, size) == 0;
}

void externals_init(struct externals *externals)
{
	memset(externals, 0, sizeof *externals);
	table_init(&externals->held, match_held);
	table_init(&externals->busy, match_busy);
	externals->busy_end = &externals->first_busy;
	while (getrandom(&externals->random, sizeof externals->random, 0) < 0 && errno == EINTR)
		;
}

/* Spread evenly enough, without a system call each (splitmix64). */
static uint32_t random_below(struct externals *externals, uint32_t limit)
{
	uint64_t mixed = externals->random += 0x9e3779b97f4a7c15;
	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
	return (uint32_t)((mixed ^ mixed >> 31) % limit);
}

static void forget_oldest(struct externals *externals)
{
	struct busy_port *busy = externals->first_busy;
	externals->first_busy = busy->next;
	if (!externals->first_busy)
		externals->busy_end = &externals->first_busy;
	externals->busy_count--;
	externals->is_full = false;
	table_remove(&externals->busy, &busy->node);
	free(busy);
}

void externals_fini(struct externals *externals)
{
	while (externals->first_busy)
		forget_oldest(externals);
	table_fini(&externals->held);
	table_fini(&externals->busy);
}

void externals_set_range(struct externals *externals, uint32_t first, uint32_t last)
{
	bool is_range = first > 0 && first <= last && last <= UINT16_MAX;
	externals->first = is_range ? (uint16_t)first : 0;
	externals->last = is_range ? (uint16_t)last : 0;
	externals->is_full = false;
}

struct external_place *external_holder(
	const struct externals *externals, const struct endpoint *endpoint, uint8_t transport)
{
	uint8_t key[KEY_SIZE];
	key_of(endpoint, transport, key);
	struct table_node *node = table_find(&externals->held, key, sizeof key);
	return node ? TABLE_OWNER(node, struct external_place, node) : NULL;
}

bool external_claim(struct externals *externals, const struct endpoint *endpoint, uint8_t transport,
	struct external_place *place)
{
	uint8_t key[KEY_SIZE];
	key_of(endpoint, transport, key);
	place->endpoint = *endpoint;
	place->transport = transport;
	place->held = table_insert(&externals->held, &place->node, key, sizeof key);
	return place->held;
}

void external_release(struct externals *externals, struct external_place *place)
{
	if (place->held) {
		table_remove(&externals->held, &place->node);
		externals->is_full = false;
	}
	memset(place, 0, sizeof *place);
}

static bool is_free(
	const struct externals *externals, const struct endpoint *endpoint, uint8_t transport)
{
	uint8_t key[KEY_SIZE];
	key_of(endpoint, transport, key);
	return !table_find(&externals->held, key, sizeof key) &&
		!table_find(&externals->busy, key, sizeof key);
}

uint16_t external_choose(
	struct externals *externals, const struct addr *addr, uint8_t transport, int64_t now_us)
{
	struct endpoint endpoint = {.addr = *addr};
	uint32_t width = (uint32_t)externals->last - externals->first + 1;
	if (externals->first == 0)
		return 0;
	while (externals->first_busy && externals->first_busy->until_us <= now_us)
		forget_oldest(externals);
	if (externals->is_full && externals->full_transport == transport &&
		addr_equal(&externals->full_addr, addr))
		return 0;
	for (int i = 0; i < RANDOM_TRIES; i++) {
		endpoint.port = (uint16_t)(externals->first + random_below(externals, width));
		if (is_free(externals, &endpoint, transport))
			return endpoint.port;
	}
	uint32_t start = random_below(externals, width);
	for (uint32_t i = 0; i < width; i++) {
		endpoint.port = (uint16_t)(externals->first + (start + i) % width);
		if (is_free(externals, &endpoint, transport))
			return endpoint.port;
	}
	externals->is_full = true;
	externals->full_addr = *addr;
	externals->full_transport = transport;
	return 0;
}

void external_is_busy(struct externals *externals, const struct endpoint *endpoint,
	uint8_t transport, int64_t now_us)
{
	struct busy_port *busy = calloc(1, sizeof *busy);
	if (!busy)
		return;
	key_of(endpoint, transport, busy->key);
	busy->until_us = now_us + EXTERNAL_BUSY_US;
	if (table_find(&externals->busy, busy->key, sizeof busy->key) ||
		!table_insert(&externals->busy, &busy->node, busy->key, sizeof busy->key)) {
		free(busy);
		return;
	}
	*externals->busy_end = busy;
	externals->busy_end = &busy->next;
	if (++externals->busy_count > EXTERNAL_BUSY_MAX)
		forget_oldest(externals);
}
