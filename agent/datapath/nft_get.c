/* Elements back into doors, and single doors. */
#include <string.h>

#include "agent/datapath/nft_internal.h"

bool nft_understand_key(const struct nft_map *map, const uint8_t *key, struct addr *from,
	struct endpoint *to, uint8_t *transport)
{
	size_t length = map->ipv6 ? 16 : 4, at = 0;
	uint8_t family = map->ipv6 ? ADDR_IPV6 : ADDR_IPV4;
	if (!nft_map_is_keyed_by_to(map->kind)) {
		*from = (struct addr){.family = family};
		memcpy(from->bytes, key, length);
		at = length;
	}
	*to = (struct endpoint){.addr = {.family = family}};
	memcpy(to->addr.bytes, key + at, length);
	at += length;
	*transport = key[at];
	to->port = (uint16_t)(key[at + 4] << 8 | key[at + 5]);
	return to->port != 0;
}

void nft_understand_translated(const struct nft_map *map, const uint8_t *key, struct door *door)
{
	const uint8_t *port = key + nft_key_size(map) - 4;
	if (!map->translated)
		return;
	door->nat = DOOR_DNAT;
	door->outside = (struct endpoint){.port = (uint16_t)(port[0] << 8 | port[1])};
}

bool nft_understand_admitting(
	const struct nft_map *map, const struct nft_element *element, struct held_door *ret_held)
{
	struct held_door held = {.door = {.oneway = map->oneway, .uses = element->uses},
		.counter = element->counter,
		.expired = element->closed};
	if (element->data_size != sizeof held.door.grant.bytes ||
		!nft_understand_key(
			map, element->key, &held.door.from, &held.door.to, &held.door.transport))
		return false;
	memcpy(held.door.grant.bytes, element->data, element->data_size);
	held.door.timeout_ms = element->timeout_ms;
	nft_understand_translated(map, element->key, &held.door);
	nft_understand_nat(element->comment, &held.door);
	*ret_held = held;
	return true;
}

bool nft_get_admitting(struct nft *nft, const struct door *key, struct held_door *ret_held)
{
	struct nft_section sections[NFT_SECTIONS_MOST];
	struct nft_element element, left;
	struct nft_part part;
	struct held_door held;
	size_t count = nft_sections(nft->renewal, key, sections);
	if (count == 0)
		return false;
	nft_part(key, sections[0].kind, 0, &part);
	if (!nft_read_element(nft, &part, &element) ||
		!nft_understand_admitting(&part.map, &element, &held))
		return false;
	if (nft->renewal == NFT_RENEW_REPLACE) {
		nft_part(key, sections[1].kind, 0, &part);
		bool is_left = nft_read_element(nft, &part, &left);
		held.door.timeout_ms = is_left ? left.timeout_ms : 0;
		held.expired |= !is_left;
	}
	*ret_held = held;
	return true;
}

static bool get_wide(struct nft *nft, const struct door *key, struct held_door *ret_held)
{
	struct nft_object limit, counter;
	struct nft_element element;
	struct nft_part part;
	struct held_door held = {.door = *key};
	nft_part(key, MAP_WIDE_GRANT, 0, &part);
	if (!nft_read_object(nft, &key->grant, true, &limit) ||
		!nft_read_object(nft, &key->grant, false, &counter))
		return false;
	held.door.uses = limit.uses;
	held.counter = counter.counter;
	held.expired = !nft_read_element(nft, &part, &element);
	held.door.timeout_ms = held.expired ? 0 : element.timeout_ms;
	held.incomplete = !held.expired &&
		memcmp(element.data, key->grant.bytes, sizeof key->grant.bytes) != 0;
	*ret_held = held;
	return true;
}

bool nft_get(struct nft *nft, const struct door *key, struct held_door *ret_held)
{
	enum nft_shape shape = nft_shape_of(key);
	if (shape == SHAPE_WIDE)
		return get_wide(nft, key, ret_held);
	return shape != SHAPE_REMAINS && nft_get_admitting(nft, key, ret_held);
}
