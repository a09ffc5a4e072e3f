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
#define UNLIMITED_RATE 1000000000 /* a second: never runs out */
#define NS_A_SECOND 1000000000ULL
/* A deletion that what is gone already does not make fail (an aborted transaction costs some 10
 * ms); Linux 6.3, newer than the headers of Debian 12. */
#define DESTROY_ELEMENT 30 /* NFT_MSG_DESTROYSETELEM */

void nft_map_name(char name[static 16], bool ipv6, bool oneway, uint32_t shard)
{
	snprintf(name, 16, "%c%c_%02x", oneway ? 'o' : 'c', ipv6 ? '6' : '4', shard);
}

size_t nft_key(const struct door *door, uint8_t key[static NFT_KEY6_BYTES])
{
	size_t size = addr_length(&door->from);
	memset(key, 0, NFT_KEY6_BYTES);
	memcpy(key, door->from.bytes, size);
	memcpy(key + size, door->to.addr.bytes, size);
	key[2 * size] = door->transport;
	key[2 * size + 4] = (uint8_t)(door->to.port >> 8);
	key[2 * size + 5] = (uint8_t)door->to.port;
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

bool nft_limit_of(uint64_t uses, uint64_t timeout_ms, struct nft_limit *ret_limit)
{
	/* The bucket fills up by one in unit_s: longer than the door can last, or one more would
	 * pass. The kernel keeps burst * unit in nanoseconds in 64 bits. */
	uint64_t unit_s = timeout_ms / 1000 + 60;
	if (uses == 0) {
		*ret_limit = (struct nft_limit){UNLIMITED_RATE, 1, UNLIMITED_RATE};
		return true;
	}
	if (unit_s < WEEK_S && uses <= UINT64_MAX / NS_A_SECOND / WEEK_S)
		unit_s = WEEK_S; /* nft prints it as 1/week */
	if (uses > UINT32_MAX || unit_s > UINT64_MAX / NS_A_SECOND / uses)
		return false;
	*ret_limit = (struct nft_limit){1, unit_s, (uint32_t)uses};
	return true;
}

static struct nftnl_set *set_of(const struct nft *nft, const struct door *door)
{
	struct nftnl_set *set = nftnl_set_alloc();
	char name[16];
	if (!set)
		return NULL;
	nft_map_name(name, door->from.family == ADDR_IPV6, door->oneway, nft_shard(door));
	nftnl_set_set_str(set, NFTNL_SET_TABLE, nft->table);
	nftnl_set_set_str(set, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
	return set;
}

/* An element with its key, in `set`. */
static struct nftnl_set_elem *add_element(struct nftnl_set *set, const struct door *door)
{
	struct nftnl_set_elem *element = set ? nftnl_set_elem_alloc() : NULL;
	uint8_t key[NFT_KEY6_BYTES];
	uint32_t size = (uint32_t)nft_key(door, key);
	if (!element)
		return NULL;
	nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, key, size);
	nftnl_set_elem_add(set, element);
	return element;
}

static bool add_limit(struct nftnl_set_elem *element, const struct door *door)
{
	struct nftnl_expr *limit = nftnl_expr_alloc("limit");
	struct nftnl_expr *counter = nftnl_expr_alloc("counter");
	struct nft_limit values = {1, WEEK_S, 1};
	if (!limit || !counter) {
		if (limit)
			nftnl_expr_free(limit);
		if (counter)
			nftnl_expr_free(counter);
		return false;
	}
	(void)nft_limit_of(door->uses, door->timeout_ms, &values); /* callers have asked */
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_RATE, values.rate);
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_UNIT, values.unit_s);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_BURST, values.burst);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_FLAGS, 0);
	nftnl_set_elem_add_expr(element, limit);
	nftnl_set_elem_add_expr(element, counter);
	return true;
}

bool nft_build_add(struct nft *nft, const struct door *door)
{
	struct nftnl_set *set = set_of(nft, door);
	struct nftnl_set_elem *element = add_element(set, door);
	bool built = element && add_limit(element, door);
	if (built) {
		nftnl_set_elem_set(
			element, NFTNL_SET_ELEM_DATA, door->grant.bytes, sizeof door->grant.bytes);
		nftnl_set_elem_set_u64(
			element, NFTNL_SET_ELEM_TIMEOUT, door->timeout_ms ? door->timeout_ms : 1);
		nftnl_set_elems_nlmsg_build_payload(
			batch_message(nft, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL), set);
		batch_next(nft);
	}
	if (set)
		nftnl_set_free(set);
	return built;
}

bool nft_build_remove(struct nft *nft, const struct door *door)
{
	struct nftnl_set *set = set_of(nft, door);
	bool built = add_element(set, door) != NULL;
	if (built) {
		nftnl_set_elems_nlmsg_build_payload(
			batch_message(
				nft, nft->no_destroy ? NFT_MSG_DELSETELEM : DESTROY_ELEMENT, 0),
			set);
		batch_next(nft);
	}
	if (set)
		nftnl_set_free(set);
	return built;
}

/* ---- applying ---- */

/* What is to be done with one door in the next try. */
enum step { STEP_DO, STEP_REPLACE, STEP_CONFLICT, STEP_SKIP };

/* One try: what is still to be done, and what the kernel says of each message. */
struct attempt {
	struct nft *nft;
	const struct door *add, *remove;
	size_t add_count, remove_count;
	enum step *add_step, *remove_step;
	/* Of each message: index into remove, into add (+ remove_count), or for the removal of what
	 * an addition replaces its index into add (+ remove_count + add_count). */
	size_t *message_of, messages;
	bool destroying; /* removals are DESTROYSETELEM */
	bool conflicts, table_gone;
	struct door_failure *failures;
	size_t failure_count;
};

static void fail_door(struct attempt *attempt, size_t at, const char *cause)
{
	struct door_failure *failure = &attempt->failures[attempt->failure_count++];
	failure->grant = attempt->add[at].grant;
	snprintf(failure->cause, sizeof failure->cause, "%s", cause);
	attempt->add_step[at] = STEP_SKIP;
}

static const char *explain(int errnum)
{
	switch (errnum) {
	case ENFILE:
		return "the kernel's map of doors is full";
	case EEXIST:
		return "another door has the same key and cannot be replaced";
	default:
		return strerror(errnum);
	}
}

static void removal_refused(
	struct attempt *attempt, enum step *step, enum step otherwise, int errnum)
{
	if (errnum != ENOENT && attempt->destroying)
		attempt->nft->no_destroy = true; /* before Linux 6.3: once more, in its words */
	else
		*step = otherwise; /* expired or removed by others: what was wanted */
}

static void addition_refused(struct attempt *attempt, size_t at, int errnum)
{
	enum step *step = &attempt->add_step[at];
	if (errnum == ENOENT) {
		attempt->table_gone = true; /* its map is */
	} else if (errnum == EEXIST && *step == STEP_DO) {
		*step = STEP_CONFLICT;
		attempt->conflicts = true;
	} else if (*step != STEP_SKIP) {
		fail_door(attempt, at, explain(errnum));
	}
}

static void refused(void *arg, size_t index, int errnum)
{
	struct attempt *attempt = arg;
	size_t at = attempt->message_of[index];
	if (at < attempt->remove_count) {
		removal_refused(attempt, &attempt->remove_step[at], STEP_SKIP, errnum);
		return;
	}
	at -= attempt->remove_count;
	if (at < attempt->add_count)
		addition_refused(attempt, at, errnum);
	else
		removal_refused(
			attempt, &attempt->add_step[at - attempt->add_count], STEP_DO, errnum);
}

static void note(struct attempt *attempt, size_t at)
{
	attempt->message_of[attempt->messages++] = at;
}

static enum status try_apply(struct nft *nft, struct attempt *attempt, struct error *err)
{
	attempt->messages = 0;
	attempt->destroying = !nft->no_destroy;
	batch_begin(nft);
	for (size_t i = 0; i < attempt->remove_count; i++) {
		if (attempt->remove_step[i] == STEP_SKIP)
			continue;
		nft->failed |= !nft_build_remove(nft, &attempt->remove[i]);
		note(attempt, i);
	}
	for (size_t i = 0; i < attempt->add_count; i++) {
		if (attempt->add_step[i] == STEP_SKIP)
			continue;
		if (attempt->add_step[i] == STEP_REPLACE) {
			nft->failed |= !nft_build_remove(nft, &attempt->add[i]);
			note(attempt, attempt->remove_count + attempt->add_count + i);
		}
		nft->failed |= !nft_build_add(nft, &attempt->add[i]);
		note(attempt, attempt->remove_count + i);
	}
	return batch_commit(nft, refused, attempt, err);
}

/* Who holds the key? Our own grant: all is well. Another: it goes. */
static void settle_conflicts(struct nft *nft, struct attempt *attempt)
{
	for (size_t i = 0; attempt->conflicts && i < attempt->add_count; i++) {
		struct held_door held;
		if (attempt->add_step[i] != STEP_CONFLICT)
			continue;
		if (!nft_get(nft, &attempt->add[i], &held))
			attempt->add_step[i] = STEP_DO; /* expired since */
		else if (id_equal(&held.door.grant, &attempt->add[i].grant))
			attempt->add_step[i] = STEP_SKIP;
		else
			attempt->add_step[i] = STEP_REPLACE;
	}
	attempt->conflicts = false;
}

static void refuse_uncountable(struct attempt *attempt)
{
	for (size_t i = 0; i < attempt->add_count; i++) {
		struct nft_limit limit;
		const struct door *door = &attempt->add[i];
		if (!nft_limit_of(door->uses, door->timeout_ms, &limit))
			fail_door(attempt, i,
				"the kernel cannot count so many connections over so "
				"long a lifetime: ask for fewer, or for unlimited");
	}
}

#define TRANSACTION_DOORS 2000 /* of each kind: fits the batch buffer, replacements included */
#define TRIES_MOST 16

static enum status apply_some(struct nft *nft, const struct door *add, size_t add_count,
	const struct door *remove, size_t remove_count, struct door_failure *failures,
	size_t *failure_count, struct error *err)
{
	size_t total = add_count + remove_count;
	enum step *steps = calloc(total + 1, sizeof *steps);
	size_t *message_of = calloc(total + add_count + 1, sizeof *message_of);
	enum status status = STATUS_ABORTED;
	if (!steps || !message_of) {
		free(steps);
		free(message_of);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	struct attempt attempt = {.nft = nft,
		.add = add,
		.remove = remove,
		.add_step = steps,
		.remove_step = steps + add_count,
		.message_of = message_of,
		.add_count = add_count,
		.remove_count = remove_count,
		.failures = failures,
		.failure_count = *failure_count};
	refuse_uncountable(&attempt);
	/* The kernel names all it dislikes at once, so two or three tries are the rule. */
	for (int i = 0; i < TRIES_MOST && status == STATUS_ABORTED && !attempt.table_gone; i++) {
		status = try_apply(nft, &attempt, err);
		settle_conflicts(nft, &attempt);
	}
	if (attempt.table_gone)
		status = error_set(
			err, STATUS_NOT_FOUND, "nftables: table inet %s is gone", nft->table);
	*failure_count = attempt.failure_count;
	free(steps);
	free(message_of);
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
		size_t adds = add_count < TRANSACTION_DOORS ? add_count : TRANSACTION_DOORS;
		/* Additions may need the keys that removals free: they come once all those are in.
		 */
		if (remove_count > removes)
			adds = 0;
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
	door->from.family = door->to.addr.family = ipv6 ? ADDR_IPV6 : ADDR_IPV4;
	memcpy(door->from.bytes, key, length);
	memcpy(door->to.addr.bytes, key + length, length);
	door->transport = key[2 * length];
	door->to.port = (uint16_t)(key[2 * length + 4] << 8 | key[2 * length + 5]);
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

bool nft_get(struct nft *nft, const struct door *key, struct held_door *ret_held)
{
	struct dump dump = {.ipv6 = key->from.family == ADDR_IPV6, .oneway = key->oneway};
	char request[1024];
	struct nftnl_set *set = set_of(nft, key);
	bool found = false;
	if (add_element(set, key)) {
		struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
			request, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_ACK, nft->sequence++);
		nftnl_set_elems_nlmsg_build_payload(message, set);
		found = nft_query(nft, message, on_elements, &dump, NULL) == STATUS_OK &&
			dump.count == 1;
	}
	if (found)
		*ret_held = dump.doors[0];
	free(dump.doors);
	if (set)
		nftnl_set_free(set);
	return found;
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
	size_t before = dump->count;
	enum status status;
	do {
		struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
			request, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP, nft->sequence++);
		nftnl_set_elems_nlmsg_build_payload(message, set);
		dump->count = before; /* a dump that was disturbed begins again */
		status = nft_query(nft, message, on_elements, dump, err);
	} while (status == STATUS_ABORTED);
	nftnl_set_free(set);
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
