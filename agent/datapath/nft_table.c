/* The table with its maps and chains; the rules are nft_rules.c's. */
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "agent/datapath/nft_internal.h"

/* nft's data types, for `nft list` (they mean nothing to the kernel). */
enum { TYPE_INTEGER = 4, TYPE_IPV4 = 7, TYPE_IPV6 = 8, TYPE_PROTO = 12, TYPE_SERVICE = 13 };
#define TYPE_VERDICT 0xffffff00U
#define WEEK_S (7U * 86400)
#define MAP_SIZE 131072 /* elements a shard may hold */

struct hook {
	const char *chain, *type;
	uint32_t hook;
};
static const struct hook forward = {"forward", "filter", NF_INET_FORWARD},
			 prerouting = {"prerouting", "nat", NF_INET_PRE_ROUTING},
			 postrouting = {"postrouting", "nat", NF_INET_POST_ROUTING};

/* Before a site's own: what they say of other flows stays theirs. */
#define DNAT_PRIORITY (-100 - 10)
#define SNAT_PRIORITY (100 - 10)

static void put_hook(struct nft *nft, struct nftnl_chain *chain, const struct hook *hook)
{
	bool filters = hook == &forward;
	int32_t priority = filters    ? nft->config.priority
		: hook == &prerouting ? DNAT_PRIORITY
				      : SNAT_PRIORITY;
	nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, hook->type);
	nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, hook->hook);
	nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, priority);
	nftnl_chain_set_u32(
		chain, NFTNL_CHAIN_POLICY, filters && nft->config.enforce ? NF_DROP : NF_ACCEPT);
}

/* `hook`: NULL for a chain that others jump to. */
static void put_chain(struct nft *nft, uint16_t type, const char *name, const struct hook *hook)
{
	struct nftnl_chain *chain = nftnl_chain_alloc();
	if (!chain) {
		nft->failed = true;
		return;
	}
	nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, nft->table);
	nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
	if (hook && type == NFT_MSG_NEWCHAIN)
		put_hook(nft, chain, hook);
	uint16_t flags = type == NFT_MSG_NEWCHAIN ? NLM_F_CREATE : 0;
	nftnl_chain_nlmsg_build_payload(batch_message(nft, type, flags), chain);
	batch_next(nft);
	nftnl_chain_free(chain);
}

static struct nftnl_set *new_set(struct nft *nft, const char *name, uint32_t id)
{
	struct nftnl_set *set = nftnl_set_alloc();
	if (!set) {
		nft->failed = true;
		return NULL;
	}
	nftnl_set_set_str(set, NFTNL_SET_TABLE, nft->table);
	nftnl_set_set_str(set, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(set, NFTNL_SET_ID, id);
	return set;
}

static void put_set(struct nft *nft, struct nftnl_set *set)
{
	nftnl_set_nlmsg_build_payload(batch_message(nft, NFT_MSG_NEWSET, NLM_F_CREATE), set);
	batch_next(nft);
}

/* What an element gets that brings none of its own; ours always do. */
static void add_default_expressions(struct nft *nft, struct nftnl_set *set)
{
	struct nftnl_expr *limit = nftnl_expr_alloc("limit");
	struct nftnl_expr *counter = nftnl_expr_alloc("counter");
	nft->failed |= !limit || !counter;
	if (limit) {
		nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_RATE, 1);
		nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_UNIT, WEEK_S);
		nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_BURST, 1);
		nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
		nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_FLAGS, 0);
		nftnl_set_add_expr(set, limit);
	}
	if (counter)
		nftnl_set_add_expr(set, counter);
}

static void describe_key(struct nftnl_set *set, const struct nft_map *map)
{
	uint32_t addr = map->ipv6 ? TYPE_IPV6 : TYPE_IPV4;
	uint32_t type = nft_map_is_keyed_by_to(map->kind) ? addr : (addr << 6) | addr;
	type = (((type << 6) | TYPE_PROTO) << 6) | TYPE_SERVICE;
	if (map->translated)
		type = (type << 6) | TYPE_SERVICE;
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, type);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, nft_key_size(map));
	nftnl_set_set_u32(set, NFTNL_SET_DESC_SIZE, MAP_SIZE);
}

/* What the map leads to; returns the flags that this needs. */
static uint32_t describe_data(struct nft *nft, struct nftnl_set *set, const struct nft_map *map)
{
	uint32_t addr = map->ipv6 ? TYPE_IPV6 : TYPE_IPV4, size = map->ipv6 ? 16 : 4;
	switch (map->kind) {
	case MAP_EXACT:
	case MAP_ANYBODY:
		add_default_expressions(nft, set);
		nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, TYPE_IPV6);
		nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, sizeof(struct id));
		return NFT_SET_MAP | NFT_SET_EXPR;
	case MAP_WIDE_GRANT:
		nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, TYPE_IPV6);
		nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, sizeof(struct id));
		return NFT_SET_MAP;
	case MAP_WIDE_LIMIT:
	case MAP_WIDE_COUNTER:
		nftnl_set_set_u32(set, NFTNL_SET_OBJ_TYPE,
			map->kind == MAP_WIDE_LIMIT ? NFT_OBJECT_LIMIT : NFT_OBJECT_COUNTER);
		return NFT_SET_OBJECT;
	case MAP_SNAT:
		nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, addr);
		nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, size);
		return NFT_SET_MAP;
	case MAP_SNAT_PORT:
	case MAP_DNAT:
	case MAP_DNAT_ANYBODY:
		nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, (addr << 6) | TYPE_SERVICE);
		nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, size + 4);
		return NFT_SET_MAP;
	case MAP_EXACT_TIME:
	case MAP_ANYBODY_TIME:
	case MAP_KINDS:
		break;
	}
	return 0;
}

static void put_map(struct nft *nft, const struct nft_map *map, uint32_t id)
{
	char name[16];
	nft_map_name(name, map);
	struct nftnl_set *set = new_set(nft, name, id);
	if (!set)
		return;
	uint32_t flags = describe_data(nft, set, map);
	nftnl_set_set_u32(set, NFTNL_SET_FLAGS, flags | NFT_SET_TIMEOUT);
	describe_key(set, map);
	put_set(nft, set);
	nftnl_set_free(set);
}

static bool add_dispatch_element(struct nftnl_set *set, bool ipv6, uint32_t shard)
{
	struct nftnl_set_elem *element = nftnl_set_elem_alloc();
	char chain[16];
	if (!element)
		return false;
	nft_shard_chain(chain, ipv6, shard);
	nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, &shard, sizeof shard);
	nftnl_set_elem_set_u32(element, NFTNL_SET_ELEM_VERDICT, (uint32_t)NFT_JUMP);
	nftnl_set_elem_set_str(element, NFTNL_SET_ELEM_CHAIN, chain);
	nftnl_set_elem_add(set, element);
	return true;
}

/* So that nft knows how to print and parse the keys: it has no name for a type of plain numbers. */
static void say_byte_order(struct nft *nft, struct nftnl_set *set)
{
	struct nftnl_udata_buf *data = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);
	const uint32_t host_endian = 1;
	if (data && nftnl_udata_put_u32(data, NFTNL_UDATA_SET_KEYBYTEORDER, host_endian))
		nftnl_set_set_data(set, NFTNL_SET_USERDATA, nftnl_udata_buf_data(data),
			nftnl_udata_buf_len(data));
	else
		nft->failed = true;
	if (data)
		nftnl_udata_buf_free(data);
}

/* { 0 : jump s4_00, ... }, which belongs to the rule that looks it up and goes with it */
static void put_dispatch(struct nft *nft, bool ipv6, uint32_t id)
{
	struct nftnl_set *set = new_set(nft, NFT_ANONYMOUS_MAP, id);
	if (!set)
		return;
	nftnl_set_set_u32(set, NFTNL_SET_FLAGS, NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_MAP);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, TYPE_INTEGER);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, sizeof(uint32_t));
	nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, TYPE_VERDICT);
	nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, 16);
	say_byte_order(nft, set);
	put_set(nft, set);
	for (uint32_t shard = 0; shard < NFT_SHARDS; shard++)
		nft->failed |= !add_dispatch_element(set, ipv6, shard);
	nftnl_set_elems_nlmsg_build_payload(
		batch_message(nft, NFT_MSG_NEWSETELEM, NLM_F_CREATE), set);
	batch_next(nft);
	nftnl_set_free(set);
}

static void put_table(struct nft *nft, uint16_t type)
{
	struct nftnl_table *table = nftnl_table_alloc();
	struct nftnl_udata_buf *data = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);
	if (!table || !data ||
		!nftnl_udata_put_strz(data, NFTNL_UDATA_TABLE_COMMENT, nft->comment)) {
		nft->failed = true;
	} else {
		nftnl_table_set_str(table, NFTNL_TABLE_NAME, nft->table);
		nftnl_table_set_u32(table, NFTNL_TABLE_FAMILY, NFPROTO_INET);
		if (type == NFT_MSG_NEWTABLE)
			nftnl_table_set_data(table, NFTNL_TABLE_USERDATA,
				nftnl_udata_buf_data(data), nftnl_udata_buf_len(data));
		uint16_t flags = type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0;
		nftnl_table_nlmsg_build_payload(batch_message(nft, type, flags), table);
		batch_next(nft);
	}
	if (table)
		nftnl_table_free(table);
	if (data)
		nftnl_udata_buf_free(data);
}

/* Maps, chains and rules of one family. */
static void put_family(struct nft *nft, bool ipv6, uint32_t *id)
{
	for (uint32_t i = 0; i < MAP_KINDS * 4 * NFT_SHARDS; i++) {
		const struct nft_map map = {
			i / 4 / NFT_SHARDS, ipv6, i & 1, i / 4 % NFT_SHARDS, i & 2};
		if (nft_map_exists(nft->renewal, &map))
			put_map(nft, &map, (*id)++);
	}
	char chain[16];
	nft_translated_chain(chain, ipv6);
	put_chain(nft, NFT_MSG_NEWCHAIN, chain, NULL);
	nft_put_translated_rules(nft, ipv6);
	for (uint32_t shard = 0; shard < NFT_SHARDS; shard++) {
		nft_shard_chain(chain, ipv6, shard);
		put_chain(nft, NFT_MSG_NEWCHAIN, chain, NULL);
		nft_put_shard_rules(nft, ipv6, shard);
	}
	put_dispatch(nft, ipv6, *id);
	nft_put_family_rules(nft, ipv6, (*id)++);
}

void nft_build_table(struct nft *nft, enum nft_build how, bool exists)
{
	uint32_t id = 1;
	if (exists && how == NFT_BUILD_NEW_TABLE)
		put_table(nft, NFT_MSG_DELTABLE);
	put_table(nft, NFT_MSG_NEWTABLE);
	if (exists && how != NFT_BUILD_NEW_TABLE)
		nft_delete_rules(nft);
	if (exists && how == NFT_BUILD_NEW_CHAIN)
		put_chain(nft, NFT_MSG_DELCHAIN, "forward", &forward);
	put_chain(nft, NFT_MSG_NEWCHAIN, "forward", &forward);
	put_chain(nft, NFT_MSG_NEWCHAIN, "prerouting", &prerouting);
	put_chain(nft, NFT_MSG_NEWCHAIN, "postrouting", &postrouting);
	nft_put_forward_rules(nft);
	put_family(nft, false, &id);
	put_family(nft, true, &id);
}

void nft_build_closed(struct nft *nft)
{
	nft_delete_rules(nft);
	nft_put_live_rules(nft);
}
