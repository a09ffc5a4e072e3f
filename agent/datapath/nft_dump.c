/* The kernel's doors, put together from their parts.
 *
 * An exact door, or one for anybody, is one element that tells everything; a translation is told by
 * its comment and has an element of its own. A wide door is scattered over three maps and two
 * objects. Whatever is not the whole of a door by itself becomes a piece; sorted by grant, the
 * pieces of one door lie together.
 *
 * The parts are read one map after the other while doors expire, so translations are read before
 * what admits: a door that ends in between leaves a translation without a door (which is removed
 * here, for an address without a door must not be taken from the gateway's own programs), and never
 * looks as if it had lost one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"

enum piece_class { PIECE_MAIN, PIECE_NAT, PIECE_WIDE, PIECE_OBJECT };

struct piece {
	struct id grant;
	uint8_t class; /* enum piece_class */
	bool used; /* PIECE_NAT: there is a door for it */
	bool is_limit; /* PIECE_OBJECT, or a counter */
	uint8_t nat; /* PIECE_OBJECT */
	struct endpoint outside;
	struct nft_map map;
	uint8_t key[NFT_KEY_BYTES], data[NFT_DATA_BYTES];
	uint32_t key_size, data_size;
	uint64_t timeout_ms, value; /* PIECE_OBJECT: uses or counter */
	size_t number; /* PIECE_MAIN: of the door; PIECE_OBJECT: keys that the door should have */
};

struct time_left {
	uint8_t key[NFT_KEY_BYTES];
	uint64_t timeout_ms;
};

struct dump {
	struct nft *nft;
	enum nft_renewal renewal;
	bool lenient, failed;
	struct held_door *doors;
	size_t door_count, door_capacity, doors_before;
	struct piece *pieces;
	size_t piece_count, piece_capacity, pieces_before;
	struct time_left *times; /* of the siblings of the map under way, sorted */
	size_t time_count, time_capacity;
	struct addr *froms; /* of all wide doors, in their order */
	size_t from_count, from_capacity;
};

/* Room for one more; false: memory is out. */
static bool grow(void **array, size_t *capacity, size_t count, size_t size)
{
	if (count < *capacity)
		return true;
	size_t more = *capacity ? *capacity * 2 : 64;
	void *grown = realloc(*array, more * size);
	if (!grown)
		return false;
	*array = grown;
	*capacity = more;
	return true;
}

static struct held_door *add_door(struct dump *dump)
{
	if (!grow((void **)&dump->doors, &dump->door_capacity, dump->door_count,
		    sizeof *dump->doors)) {
		dump->failed = true;
		return NULL;
	}
	struct held_door *held = &dump->doors[dump->door_count++];
	*held = (struct held_door){0};
	return held;
}

static struct piece *add_piece(struct dump *dump, enum piece_class class, const struct id *grant)
{
	if (!grow((void **)&dump->pieces, &dump->piece_capacity, dump->piece_count,
		    sizeof *dump->pieces)) {
		dump->failed = true;
		return NULL;
	}
	struct piece *piece = &dump->pieces[dump->piece_count++];
	*piece = (struct piece){.grant = *grant, .class = (uint8_t) class};
	return piece;
}

static bool add_element(struct dump *dump, enum piece_class class, const struct id *grant,
	const struct nft_map *map, const struct nft_element *element)
{
	struct piece *piece = add_piece(dump, class, grant);
	if (!piece)
		return false;
	piece->map = *map;
	piece->key_size = element->key_size;
	piece->data_size = element->data_size;
	piece->timeout_ms = element->timeout_ms;
	memcpy(piece->key, element->key, sizeof piece->key);
	memcpy(piece->data, element->data, sizeof piece->data);
	return true;
}

static void begin(void *arg)
{
	struct dump *dump = arg;
	dump->door_count = dump->doors_before;
	dump->piece_count = dump->pieces_before;
}

/* ---- reading the maps ---- */

static int compare_times(const void *a, const void *b)
{
	return memcmp(((const struct time_left *)a)->key, ((const struct time_left *)b)->key,
		NFT_KEY_BYTES);
}

static void begin_times(void *arg)
{
	((struct dump *)arg)->time_count = 0;
}

static bool on_time(const struct nft_map *map, const struct nft_element *element, void *arg)
{
	struct dump *dump = arg;
	(void)map;
	if (!grow((void **)&dump->times, &dump->time_capacity, dump->time_count,
		    sizeof *dump->times))
		return false;
	struct time_left *left = &dump->times[dump->time_count++];
	memcpy(left->key, element->key, sizeof left->key);
	left->timeout_ms = element->timeout_ms;
	return true;
}

static bool on_admitting(const struct nft_map *map, const struct nft_element *element, void *arg)
{
	struct dump *dump = arg;
	struct held_door held;
	if (!nft_understand_admitting(map, element, &held))
		return true;
	if (dump->renewal == NFT_RENEW_REPLACE) {
		struct time_left key = {0};
		memcpy(key.key, element->key, sizeof key.key);
		const struct time_left *left = dump->time_count == 0
			? NULL
			: bsearch(&key, dump->times, dump->time_count, sizeof key, compare_times);
		held.door.timeout_ms = left ? left->timeout_ms : 0;
		held.expired |= !left;
	}
	struct held_door *place = add_door(dump);
	if (!place)
		return false;
	*place = held;
	if (held.door.nat == DOOR_AS_IS)
		return true;
	struct piece *piece = add_piece(dump, PIECE_MAIN, &held.door.grant);
	if (piece)
		piece->number = dump->door_count - 1;
	return piece != NULL;
}

static bool on_wide(const struct nft_map *map, const struct nft_element *element, void *arg)
{
	struct dump *dump = arg;
	struct id grant;
	if (map->kind == MAP_WIDE_GRANT && element->data_size == sizeof grant.bytes)
		memcpy(grant.bytes, element->data, sizeof grant.bytes);
	else if (map->kind == MAP_WIDE_GRANT || !nft_object_grant(element->object, &grant))
		return true;
	return add_element(dump, PIECE_WIDE, &grant, map, element);
}

static bool on_nat(const struct nft_map *map, const struct nft_element *element, void *arg)
{
	struct dump *dump = arg;
	struct id grant;
	if (!id_parse(element->comment, &grant))
		return true;
	return add_element(dump, PIECE_NAT, &grant, map, element);
}

static bool on_object(const struct nft_object *object, void *arg)
{
	struct piece *piece = add_piece(arg, PIECE_OBJECT, &object->grant);
	struct door translated = {0};
	int nat = 0;
	if (!piece)
		return false;
	piece->is_limit = object->is_limit;
	piece->value = object->is_limit ? object->uses : object->counter;
	if (sscanf(object->comment, "keys %zu %n", &piece->number, &nat) == 1 && nat > 0)
		nft_understand_nat(object->comment + nat, &translated);
	piece->nat = translated.nat;
	piece->outside = translated.outside;
	return true;
}

static enum status forgive(const struct dump *dump, enum status status)
{
	return status == STATUS_NOT_FOUND && dump->lenient ? STATUS_OK : status;
}

static enum status read_map(
	struct dump *dump, const struct nft_map *map, nft_element_cb cb, struct error *err)
{
	bool has_times = map->kind == MAP_EXACT || map->kind == MAP_ANYBODY;
	struct nft_map times = *map;
	dump->doors_before = dump->door_count;
	dump->pieces_before = dump->piece_count;
	dump->time_count = 0;
	if (has_times && dump->renewal == NFT_RENEW_REPLACE) {
		times.kind = map->kind == MAP_EXACT ? MAP_EXACT_TIME : MAP_ANYBODY_TIME;
		enum status status =
			nft_read_map(dump->nft, &times, begin_times, on_time, dump, err);
		if (forgive(dump, status))
			return status;
		if (dump->time_count > 0)
			qsort(dump->times, dump->time_count, sizeof *dump->times, compare_times);
	}
	return forgive(dump, nft_read_map(dump->nft, map, begin, cb, dump, err));
}

/* All maps of one kind. */
static enum status read_kind(
	struct dump *dump, enum nft_map_kind kind, nft_element_cb cb, struct error *err)
{
	enum status status = STATUS_OK;
	for (uint32_t i = 0; !status && i < 8 * NFT_SHARDS; i++) {
		struct nft_map map = {kind, i & 1, i & 2, i >> 3, i & 4};
		if (nft_map_exists(dump->renewal, &map))
			status = read_map(dump, &map, cb, err);
	}
	return status;
}

static enum status read_objects(struct dump *dump, bool limits, struct error *err)
{
	dump->doors_before = dump->door_count;
	dump->pieces_before = dump->piece_count;
	return forgive(dump, nft_read_objects(dump->nft, limits, begin, on_object, dump, err));
}

static enum status read_all(struct dump *dump, struct error *err)
{
	static const struct {
		enum nft_map_kind kind;
		nft_element_cb cb;
	} order[] = {
		{MAP_SNAT_PORT, on_nat},
		{MAP_SNAT, on_nat},
		{MAP_DNAT, on_nat},
		{MAP_DNAT_ANYBODY, on_nat},
		{MAP_EXACT, on_admitting},
		{MAP_ANYBODY, on_admitting},
		{MAP_WIDE_GRANT, on_wide},
		{MAP_WIDE_LIMIT, on_wide},
		{MAP_WIDE_COUNTER, on_wide},
	};
	enum status status = STATUS_OK;
	for (size_t i = 0; !status && i < sizeof order / sizeof *order; i++)
		status = read_kind(dump, order[i].kind, order[i].cb, err);
	if (!status)
		status = read_objects(dump, true, err);
	if (!status)
		status = read_objects(dump, false, err);
	return status;
}

/* ---- putting together ---- */

static int compare_pieces(const void *left, const void *right)
{
	const struct piece *a = left, *b = right;
	int order = memcmp(a->grant.bytes, b->grant.bytes, sizeof a->grant.bytes);
	if (order == 0)
		order = (int)a->class - (int)b->class;
	if (order == 0)
		order = (int)a->map.ipv6 - (int)b->map.ipv6;
	if (order == 0)
		order = (int)a->map.oneway - (int)b->map.oneway;
	if (order == 0)
		order = memcmp(a->key, b->key, sizeof a->key);
	return order ? order : (int)a->map.kind - (int)b->map.kind;
}

struct group {
	struct piece *first;
	size_t count;
};

static struct piece *find_part(const struct group *group, const struct nft_part *part)
{
	for (size_t i = 0; i < group->count; i++) {
		struct piece *piece = &group->first[i];
		if (piece->class > PIECE_NAT)
			break;
		if (piece->class == PIECE_NAT && piece->map.kind == part->map.kind &&
			piece->map.ipv6 == part->map.ipv6 &&
			memcmp(piece->key, part->key, sizeof part->key) == 0)
			return piece;
	}
	return NULL;
}

/* Are all translations of the door there? */
static bool claim_translations(const struct group *group, const struct door *door)
{
	struct nft_section sections[NFT_SECTIONS_MOST];
	size_t count = nft_sections(NFT_RENEW_IN_PLACE, door, sections);
	bool all = true;
	if (door->nat == DOOR_AS_IS || count == 0)
		return true;
	const struct nft_section *nat = &sections[count - 1];
	for (size_t i = 0; i < nat->count; i++) {
		struct nft_part part;
		nft_part(door, nat->kind, i, &part);
		struct piece *piece = find_part(group, &part);
		if (piece)
			piece->used = true;
		all &= piece && piece->data_size == part.data_size &&
			memcmp(piece->data, part.data, part.data_size) == 0;
	}
	return all;
}

/* What the elements of a wide door add up to. */
struct wide {
	struct held_door held;
	size_t keys, whole_keys, from_first;
	size_t declared; /* keys that it should have */
	bool has_limit, has_counter, strange;
	unsigned seen; /* maps that have the key under way */
	struct addr from; /* of that key */
};

static void end_key(struct wide *wide)
{
	const unsigned all = 1U << MAP_WIDE_LIMIT | 1U << MAP_WIDE_COUNTER | 1U << MAP_WIDE_GRANT;
	wide->whole_keys += wide->seen == all;
	wide->keys += wide->seen != 0;
	wide->seen = 0;
}

static bool add_from(struct dump *dump, const struct addr *from)
{
	if (!grow((void **)&dump->froms, &dump->from_capacity, dump->from_count,
		    sizeof *dump->froms))
		return false;
	dump->froms[dump->from_count++] = *from;
	return true;
}

static bool add_key(struct dump *dump, struct wide *wide, const struct piece *piece)
{
	struct door *door = &wide->held.door;
	struct endpoint to;
	struct addr from = {0};
	uint8_t transport;
	if (!nft_understand_key(&piece->map, piece->key, &from, &to, &transport))
		return true;
	if (door->to.addr.family == ADDR_NONE) {
		door->to = to;
		door->to_port_last = to.port;
		door->transport = transport;
		door->oneway = piece->map.oneway;
		door->timeout_ms = piece->timeout_ms;
		nft_understand_translated(&piece->map, piece->key, door);
	}
	wide->strange |= !addr_equal(&door->to.addr, &to.addr) || door->transport != transport ||
		door->oneway != piece->map.oneway;
	if (to.port < door->to.port)
		door->to.port = to.port;
	if (to.port > door->to_port_last)
		door->to_port_last = to.port;
	if (piece->timeout_ms < door->timeout_ms)
		door->timeout_ms = piece->timeout_ms;
	bool is_new = door->from_count == 0 || !addr_equal(&from, &wide->from);
	wide->from = from;
	door->from_count += is_new;
	return !is_new || add_from(dump, &from);
}

static void add_object(struct wide *wide, const struct piece *piece)
{
	struct door *door = &wide->held.door;
	if (piece->is_limit) {
		door->uses = piece->value;
		wide->has_limit = true;
		return;
	}
	wide->held.counter = piece->value;
	wide->has_counter = true;
	wide->declared = piece->number;
	if (piece->nat == DOOR_AS_IS)
		return;
	door->nat = piece->nat;
	door->outside = piece->outside;
}

/* One remote and a range of ports, or several remotes. */
static void settle_froms(struct dump *dump, struct wide *wide)
{
	struct door *door = &wide->held.door;
	if (door->to_port_last == door->to.port)
		door->to_port_last = 0;
	if (door->from_count == 1 && door->to_port_last != 0) {
		door->from = dump->froms[--dump->from_count];
		door->from_count = 0;
	}
}

static bool put_wide(struct dump *dump, const struct group *group)
{
	struct wide wide = {.held.door.grant = group->first->grant, .from_first = dump->from_count};
	const struct piece *before = NULL;
	for (size_t i = 0; i < group->count; i++) {
		const struct piece *piece = &group->first[i];
		if (piece->class == PIECE_OBJECT)
			add_object(&wide, piece);
		if (piece->class != PIECE_WIDE)
			continue;
		if (before && memcmp(before->key, piece->key, NFT_KEY_BYTES) != 0)
			end_key(&wide);
		wide.seen |= 1U << piece->map.kind;
		before = piece;
		if (!add_key(dump, &wide, piece))
			return false;
	}
	end_key(&wide);
	settle_froms(dump, &wide);
	struct held_door *held = &wide.held;
	size_t last = dump->door_count;
	struct held_door *place = add_door(dump);
	if (!place)
		return false;
	/* The group's parts are found by key, so the remotes must be readable now. */
	held->door.froms = held->door.from_count ? &dump->froms[wide.from_first] : NULL;
	bool translated = claim_translations(group, &held->door);
	held->door.froms = NULL;
	held->expired = wide.keys == 0;
	held->incomplete = wide.strange || !translated || !wide.has_limit || !wide.has_counter ||
		wide.keys != wide.declared || wide.whole_keys != wide.declared ||
		nft_key_count(&held->door) != wide.declared;
	dump->doors[last] = *held;
	return true;
}

static bool put_group(struct dump *dump, const struct group *group)
{
	bool is_wide = false;
	for (size_t i = 0; i < group->count; i++) {
		const struct piece *piece = &group->first[i];
		is_wide |= piece->class == PIECE_WIDE || piece->class == PIECE_OBJECT;
		if (piece->class != PIECE_MAIN)
			continue;
		struct held_door *held = &dump->doors[piece->number];
		held->incomplete = !claim_translations(group, &held->door);
	}
	return !is_wide || put_wide(dump, group);
}

static bool put_together(struct dump *dump)
{
	if (dump->piece_count > 0)
		qsort(dump->pieces, dump->piece_count, sizeof *dump->pieces, compare_pieces);
	for (size_t i = 0, end; i < dump->piece_count; i = end) {
		for (end = i + 1; end < dump->piece_count; end++)
			if (!id_equal(&dump->pieces[i].grant, &dump->pieces[end].grant))
				break;
		if (!put_group(dump, &(struct group){&dump->pieces[i], end - i}))
			return false;
	}
	return true;
}

/* Translations that lead to no door. What cannot be removed now is found again, or expires. */
static void sweep(struct dump *dump)
{
	batch_begin(dump->nft);
	for (size_t i = 0; i < dump->piece_count && batch_has_room(dump->nft); i++) {
		const struct piece *piece = &dump->pieces[i];
		if (piece->class == PIECE_NAT && !piece->used)
			(void)nft_build_element_removal(
				dump->nft, &piece->map, piece->key, piece->key_size);
	}
	(void)batch_commit(dump->nft, NULL, NULL, NULL);
}

/* Doors and their remotes in one piece of memory. */
static bool join_froms(struct dump *dump)
{
	size_t doors = (dump->door_count + 1) * sizeof *dump->doors;
	char *block = realloc(dump->doors, doors + (dump->from_count + 1) * sizeof(struct addr));
	if (!block)
		return false;
	dump->doors = (struct held_door *)block;
	struct addr *froms = (struct addr *)(block + doors);
	if (dump->from_count > 0)
		memcpy(froms, dump->froms, dump->from_count * sizeof *froms);
	for (size_t i = 0; i < dump->door_count; i++) {
		struct door *door = &dump->doors[i].door;
		if (door->from_count > 0)
			door->froms = froms;
		froms += door->from_count;
	}
	return true;
}

enum status nft_dump_doors(struct nft *nft, enum nft_renewal renewal, bool lenient,
	struct held_door **ret_doors, size_t *ret_count, struct error *err)
{
	struct dump dump = {.nft = nft, .renewal = renewal, .lenient = lenient};
	enum status status = read_all(&dump, err);
	if (!status && (!put_together(&dump) || !join_froms(&dump)))
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	if (!status && !lenient)
		sweep(&dump);
	free(dump.pieces);
	free(dump.times);
	free(dump.froms);
	if (status) {
		free(dump.doors);
		return status;
	}
	*ret_doors = dump.doors;
	*ret_count = dump.door_count;
	return STATUS_OK;
}

enum status nft_dump(
	struct nft *nft, struct held_door **ret_doors, size_t *ret_count, struct error *err)
{
	return nft_dump_doors(nft, nft->renewal, false, ret_doors, ret_count, err);
}
