/* Doors as elements: keys, shards, additions, removals, dumps. */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/set.h>
#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"

#define WEEK_S (7U * 86400)
#define UNLIMITED_RATE 1000000000ULL /* a second: never runs out */

void nft_map_name(char name[static 16], bool ipv6, bool oneway, uint32_t shard)
{
	snprintf(name, 16, "%c%c_%02x", oneway ? 'o' : 'c', ipv6 ? '6' : '4', shard);
}

size_t nft_key(const struct door *door, uint8_t key[static NFT_KEY6_BYTES])
{
	size_t size = addr_length(&door->client);
	memset(key, 0, NFT_KEY6_BYTES);
	memcpy(key, door->client.bytes, size);
	memcpy(key + size, door->remote.addr.bytes, size);
	key[2 * size] = door->transport;
	key[2 * size + 4] = (uint8_t)(door->remote.port >> 8);
	key[2 * size + 5] = (uint8_t)door->remote.port;
	return 2 * size + 8;
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
	uint8_t key[NFT_KEY6_BYTES];
	size_t size = nft_key(door, key);
	/* reciprocal_scale() of the kernel */
	return (uint32_t)((uint64_t)jhash(key, (uint32_t)size, NFT_HASH_SEED) * NFT_SHARDS >> 32);
}

/* ---- messages ---- */

static struct nftnl_set *set_of(const struct nft *nft, const struct door *door)
{
	struct nftnl_set *set = nftnl_set_alloc();
	char name[16];
	if (!set)
		abort();
	nft_map_name(name, door->client.family == ADDR_IPV6, door->oneway, nft_shard(door));
	nftnl_set_set_str(set, NFTNL_SET_TABLE, nft->table);
	nftnl_set_set_str(set, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
	return set;
}

static struct nftnl_set_elem *element_of(const struct door *door)
{
	struct nftnl_set_elem *element = nftnl_set_elem_alloc();
	uint8_t key[NFT_KEY6_BYTES];
	uint32_t size = (uint32_t)nft_key(door, key);
	if (!element)
		abort();
	nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, key, size);
	return element;
}

static void add_limit(struct nftnl_set_elem *element, uint64_t uses)
{
	struct nftnl_expr *limit = nftnl_expr_alloc("limit"),
			  *counter = nftnl_expr_alloc("counter");
	if (!limit || !counter)
		abort();
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_RATE, uses ? 1 : UNLIMITED_RATE);
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_UNIT, uses ? WEEK_S : 1);
	nftnl_expr_set_u32(
		limit, NFTNL_EXPR_LIMIT_BURST, uses ? (uint32_t)uses : (uint32_t)UNLIMITED_RATE);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_FLAGS, 0);
	nftnl_set_elem_add_expr(element, limit);
	nftnl_set_elem_add_expr(element, counter);
}

void nft_build_add(struct nft *nft, const struct door *door)
{
	struct nftnl_set *set = set_of(nft, door);
	struct nftnl_set_elem *element = element_of(door);
	nftnl_set_elem_set(
		element, NFTNL_SET_ELEM_DATA, door->grant.bytes, sizeof door->grant.bytes);
	nftnl_set_elem_set_u64(
		element, NFTNL_SET_ELEM_TIMEOUT, door->timeout_ms ? door->timeout_ms : 1);
	add_limit(element, door->uses);
	nftnl_set_elem_add(set, element);
	nftnl_set_elems_nlmsg_build_payload(
		batch_message(nft, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL), set);
	batch_next(nft);
	nftnl_set_free(set);
}

void nft_build_remove(struct nft *nft, const struct door *door)
{
	struct nftnl_set *set = set_of(nft, door);
	nftnl_set_elem_add(set, element_of(door));
	nftnl_set_elems_nlmsg_build_payload(batch_message(nft, NFT_MSG_DELSETELEM, 0), set);
	batch_next(nft);
	nftnl_set_free(set);
}

/* ---- applying ---- */

/* One try: what is still to be done, and what the kernel says of each message. */
struct attempt {
	const struct door *add, *remove;
	bool *skip_add, *skip_remove;
	size_t *add_at, *remove_at; /* of each message: index into add or remove */
	size_t removes; /* messages that are removals come first */
	struct door_failure *failures;
	size_t failure_count;
};

static void refused(void *arg, size_t index, int errnum)
{
	struct attempt *attempt = arg;
	if (index < attempt->removes) {
		attempt->skip_remove[attempt->remove_at[index]] =
			true; /* gone already (ENOENT), or never there */
		return;
	}
	size_t at = attempt->add_at[index - attempt->removes];
	if (attempt->skip_add[at])
		return;
	attempt->skip_add[at] = true;
	struct door_failure *failure = &attempt->failures[attempt->failure_count++];
	failure->grant = attempt->add[at].grant;
	snprintf(failure->cause, sizeof failure->cause, "%s",
		errnum == EEXIST ? "another door has the same key" : strerror(errnum));
}

static enum status try_apply(struct nft *nft, struct attempt *attempt, size_t add_count,
	size_t remove_count, struct error *err)
{
	size_t adds = 0;
	attempt->removes = 0;
	batch_begin(nft);
	for (size_t i = 0; i < remove_count; i++) {
		if (attempt->skip_remove[i])
			continue;
		attempt->remove_at[attempt->removes++] = i;
		nft_build_remove(nft, &attempt->remove[i]);
	}
	for (size_t i = 0; i < add_count; i++) {
		if (attempt->skip_add[i])
			continue;
		attempt->add_at[adds++] = i;
		nft_build_add(nft, &attempt->add[i]);
	}
	if (attempt->removes + adds == 0) {
		mnl_nlmsg_batch_stop(nft->batch);
		nft->batch = NULL;
		return STATUS_OK;
	}
	return batch_commit(nft, refused, attempt, err);
}

#define TRANSACTION_DOORS 2000 /* of each kind: fits the batch buffer */

static enum status apply_some(struct nft *nft, const struct door *add, size_t add_count,
	const struct door *remove, size_t remove_count, struct door_failure *failures,
	size_t *failure_count, struct error *err)
{
	size_t total = add_count + remove_count;
	bool *skip = calloc(total ? total : 1, sizeof *skip);
	size_t *at = calloc(total ? total : 1, sizeof *at);
	enum status status = STATUS_ABORTED;
	if (!skip || !at) {
		free(skip);
		free(at);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	struct attempt attempt = {.add = add,
		.remove = remove,
		.skip_add = skip,
		.skip_remove = skip + add_count,
		.add_at = at,
		.remove_at = at + add_count,
		.failures = failures,
		.failure_count = *failure_count};
	/* Each try that is refused leaves at least one message out; the kernel names all it
	 * dislikes, so few are needed. */
	for (size_t i = 0; i <= total && status == STATUS_ABORTED; i++)
		status = try_apply(nft, &attempt, add_count, remove_count, err);
	*failure_count = attempt.failure_count;
	free(skip);
	free(at);
	return status;
}

enum status nft_apply(struct nft *nft, const struct door *add, size_t add_count,
	const struct door *remove, size_t remove_count, struct door_failure *failures,
	size_t *ret_failure_count, struct error *err)
{
	size_t failure_count = 0;
	enum status status = STATUS_OK;
	while (!status && (add_count > 0 || remove_count > 0)) {
		size_t removes =
			remove_count < TRANSACTION_DOORS ? remove_count : TRANSACTION_DOORS;
		/* Additions may need the keys that removals free: they come once all removals are
		 * in. */
		size_t adds = remove_count > removes    ? 0
			: add_count < TRANSACTION_DOORS ? add_count
							: TRANSACTION_DOORS;
		status = apply_some(nft, add, adds, remove, removes, failures, &failure_count, err);
		/* An empty list may be NULL, which nothing may be added to. */
		if (adds)
			add += adds;
		add_count -= adds;
		if (removes)
			remove += removes;
		remove_count -= removes;
	}
	if (!status)
		*ret_failure_count = failure_count;
	return status;
}

/* ---- dumping ---- */

struct dump {
	struct held_door *doors;
	size_t count, capacity;
	bool ipv6, oneway, failed;
};

static int read_expression(struct nftnl_expr *expr, void *arg)
{
	struct held_door *held = arg;
	const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
	if (name && strcmp(name, "counter") == 0)
		held->counter = nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_PACKETS);
	else if (name && strcmp(name, "limit") == 0 &&
		nftnl_expr_get_u64(expr, NFTNL_EXPR_LIMIT_RATE) == 1)
		held->door.uses = nftnl_expr_get_u32(expr, NFTNL_EXPR_LIMIT_BURST);
	return 0;
}

static bool read_key(const uint8_t *key, uint32_t size, bool ipv6, struct door *door)
{
	size_t length = ipv6 ? 16 : 4;
	if (size != (ipv6 ? NFT_KEY6_BYTES : NFT_KEY4_BYTES))
		return false;
	door->client.family = door->remote.addr.family = ipv6 ? ADDR_IPV6 : ADDR_IPV4;
	memcpy(door->client.bytes, key, length);
	memcpy(door->remote.addr.bytes, key + length, length);
	door->transport = key[2 * length];
	door->remote.port = (uint16_t)(key[2 * length + 4] << 8 | key[2 * length + 5]);
	return true;
}

static int on_element(struct nftnl_set_elem *element, void *arg)
{
	struct dump *dump = arg;
	struct held_door held = {.door = {.oneway = dump->oneway}};
	uint32_t key_size = 0, data_size = 0;
	const uint8_t *key = nftnl_set_elem_get(element, NFTNL_SET_ELEM_KEY, &key_size);
	const uint8_t *data = nftnl_set_elem_get(element, NFTNL_SET_ELEM_DATA, &data_size);
	if (!key || !data || data_size != sizeof held.door.grant.bytes ||
		!read_key(key, key_size, dump->ipv6, &held.door))
		return 0;
	memcpy(held.door.grant.bytes, data, data_size);
	if (nftnl_set_elem_is_set(element, NFTNL_SET_ELEM_EXPIRATION))
		held.door.timeout_ms = nftnl_set_elem_get_u64(element, NFTNL_SET_ELEM_EXPIRATION);
	nftnl_set_elem_expr_foreach(element, read_expression, &held);
	if (dump->count == dump->capacity) {
		size_t capacity = dump->capacity ? dump->capacity * 2 : 256;
		struct held_door *grown = realloc(dump->doors, capacity * sizeof *grown);
		if (!grown) {
			dump->failed = true;
			return -1;
		}
		dump->doors = grown;
		dump->capacity = capacity;
	}
	dump->doors[dump->count++] = held;
	return 0;
}

static int on_elements(const struct nlmsghdr *message, void *arg)
{
	struct nftnl_set *set = nftnl_set_alloc();
	if (!set)
		return MNL_CB_ERROR;
	if (nftnl_set_elems_nlmsg_parse(message, set) >= 0)
		(void)nftnl_set_elem_foreach(set, on_element, arg);
	nftnl_set_free(set);
	return ((struct dump *)arg)->failed ? MNL_CB_ERROR : MNL_CB_OK;
}

static enum status dump_map(struct nft *nft, uint32_t shard, struct dump *dump, struct error *err)
{
	char request[1024], name[16];
	struct nftnl_set *set = nftnl_set_alloc();
	if (!set)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	nft_map_name(name, dump->ipv6, dump->oneway, shard);
	nftnl_set_set_str(set, NFTNL_SET_TABLE, nft->table);
	nftnl_set_set_str(set, NFTNL_SET_NAME, name);
	struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
		request, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP, nft->sequence++);
	nftnl_set_elems_nlmsg_build_payload(message, set);
	nftnl_set_free(set);
	size_t before = dump->count;
	enum status status;
	do {
		dump->count = before; /* a dump that was disturbed begins again */
		status = nft_query(nft, message, on_elements, dump, err);
	} while (status == STATUS_ABORTED);
	return status;
}

enum status nft_dump(
	struct nft *nft, struct held_door **ret_doors, size_t *ret_count, struct error *err)
{
	struct dump dump = {0};
	for (uint32_t i = 0; i < 4 * NFT_SHARDS; i++) {
		dump.ipv6 = i & 1;
		dump.oneway = i & 2;
		enum status status = dump_map(nft, i >> 2, &dump, err);
		if (status) {
			free(dump.doors);
			return status;
		}
	}
	*ret_doors = dump.doors;
	*ret_count = dump.count;
	return STATUS_OK;
}
