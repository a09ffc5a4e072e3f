/* The table's maps, chains and rules as libnftnl expressions. The words of nft.h stand above the
 * code that builds them. */
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"

/* nft's data types, for `nft list` (they mean nothing to the kernel). */
enum { TYPE_INTEGER = 4, TYPE_IPV4 = 7, TYPE_IPV6 = 8, TYPE_PROTO = 12, TYPE_SERVICE = 13 };
#define TYPE_VERDICT 0xffffff00U
#define WEEK_S (7U * 86400)
#define MAP_SIZE 131072 /* elements a shard may hold */

/* ---- expressions: when memory is out they are NULL, and batch_commit() sends nothing ---- */

static struct nftnl_expr *new_expr(struct nft *nft, const char *name)
{
	struct nftnl_expr *expr = nftnl_expr_alloc(name);
	if (!expr)
		nft->failed = true;
	return expr;
}

static struct nftnl_expr *add(struct nft *nft, struct nftnl_rule *rule, const char *name)
{
	struct nftnl_expr *expr = rule ? new_expr(nft, name) : NULL;
	if (expr)
		nftnl_rule_add_expr(rule, expr);
	return expr;
}

static void put32(struct nftnl_expr *expr, uint16_t attr, uint32_t value)
{
	if (expr)
		nftnl_expr_set_u32(expr, attr, value);
}

static void put(struct nftnl_expr *expr, uint16_t attr, const void *value, uint32_t size)
{
	if (expr)
		(void)nftnl_expr_set(expr, attr, value, size);
}

static void load_ct(struct nft *nft, struct nftnl_rule *rule, uint32_t key, uint32_t reg)
{
	struct nftnl_expr *expr = add(nft, rule, "ct");
	put32(expr, NFTNL_EXPR_CT_KEY, key);
	put32(expr, NFTNL_EXPR_CT_DREG, reg);
}

static void store_ct(struct nft *nft, struct nftnl_rule *rule, uint32_t key, uint32_t reg)
{
	struct nftnl_expr *expr = add(nft, rule, "ct");
	put32(expr, NFTNL_EXPR_CT_KEY, key);
	put32(expr, NFTNL_EXPR_CT_SREG, reg);
}

static void load_meta(struct nft *nft, struct nftnl_rule *rule, uint32_t key, uint32_t reg)
{
	struct nftnl_expr *expr = add(nft, rule, "meta");
	put32(expr, NFTNL_EXPR_META_KEY, key);
	put32(expr, NFTNL_EXPR_META_DREG, reg);
}

static void load_payload(struct nft *nft, struct nftnl_rule *rule, uint32_t base, uint32_t offset,
	uint32_t length, uint32_t reg)
{
	struct nftnl_expr *expr = add(nft, rule, "payload");
	put32(expr, NFTNL_EXPR_PAYLOAD_BASE, base);
	put32(expr, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	put32(expr, NFTNL_EXPR_PAYLOAD_LEN, length);
	put32(expr, NFTNL_EXPR_PAYLOAD_DREG, reg);
}

/* reg = (reg & mask) ^ flip */
static void bitwise(
	struct nft *nft, struct nftnl_rule *rule, uint32_t reg, uint32_t mask, uint32_t flip)
{
	struct nftnl_expr *expr = add(nft, rule, "bitwise");
	put32(expr, NFTNL_EXPR_BITWISE_SREG, reg);
	put32(expr, NFTNL_EXPR_BITWISE_DREG, reg);
	put32(expr, NFTNL_EXPR_BITWISE_LEN, sizeof mask);
	put(expr, NFTNL_EXPR_BITWISE_MASK, &mask, sizeof mask);
	put(expr, NFTNL_EXPR_BITWISE_XOR, &flip, sizeof flip);
}

static void compare(struct nft *nft, struct nftnl_rule *rule, uint32_t reg, uint32_t op,
	const void *value, uint32_t size)
{
	struct nftnl_expr *expr = add(nft, rule, "cmp");
	put32(expr, NFTNL_EXPR_CMP_SREG, reg);
	put32(expr, NFTNL_EXPR_CMP_OP, op);
	put(expr, NFTNL_EXPR_CMP_DATA, value, size);
}

static void verdict(struct nft *nft, struct nftnl_rule *rule, uint32_t code)
{
	struct nftnl_expr *expr = add(nft, rule, "immediate");
	put32(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	put32(expr, NFTNL_EXPR_IMM_VERDICT, code);
}

static void lookup(
	struct nft *nft, struct nftnl_rule *rule, const char *set, uint32_t id, uint32_t to)
{
	struct nftnl_expr *expr = add(nft, rule, "lookup");
	if (expr)
		(void)nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set);
	put32(expr, NFTNL_EXPR_LOOKUP_SET_ID, id);
	put32(expr, NFTNL_EXPR_LOOKUP_SREG, NFT_REG32_00);
	put32(expr, NFTNL_EXPR_LOOKUP_DREG, to);
}

static void match_byte(struct nft *nft, struct nftnl_rule *rule, uint32_t meta_key, uint8_t value)
{
	load_meta(nft, rule, meta_key, NFT_REG_1);
	compare(nft, rule, NFT_REG_1, NFT_CMP_EQ, &value, sizeof value);
}

static void match_mark(
	struct nft *nft, struct nftnl_rule *rule, uint32_t mask, uint32_t op, uint32_t value)
{
	load_ct(nft, rule, NFT_CT_MARK, NFT_REG_1);
	bitwise(nft, rule, NFT_REG_1, mask, 0);
	compare(nft, rule, NFT_REG_1, op, &value, sizeof value);
}

static void match_state(struct nft *nft, struct nftnl_rule *rule, uint32_t state_bit)
{
	uint32_t none = 0;
	load_ct(nft, rule, NFT_CT_STATE, NFT_REG_1);
	bitwise(nft, rule, NFT_REG_1, state_bit, 0);
	compare(nft, rule, NFT_REG_1, NFT_CMP_NEQ, &none, sizeof none);
}

/* saddr . daddr . l4proto . dport, four bytes a field at least, from NFT_REG32_00 on. */
static void load_key(struct nft *nft, struct nftnl_rule *rule, bool ipv6)
{
	uint32_t size = ipv6 ? 16 : 4, words = size / 4;
	uint32_t source = ipv6 ? 8 : 12; /* in the IP header */
	load_payload(nft, rule, NFT_PAYLOAD_NETWORK_HEADER, source, size, NFT_REG32_00);
	load_payload(
		nft, rule, NFT_PAYLOAD_NETWORK_HEADER, source + size, size, NFT_REG32_00 + words);
	load_meta(nft, rule, NFT_META_L4PROTO, NFT_REG32_00 + 2 * words);
	load_payload(nft, rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_REG32_00 + 2 * words + 1);
}

/* ---- messages ---- */

static struct nftnl_rule *new_rule(struct nft *nft)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();
	if (!rule)
		nft->failed = true;
	return rule;
}

static void put_rule(struct nft *nft, struct nftnl_rule *rule, const char *chain)
{
	if (!rule)
		return;
	nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, nft->table);
	nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain);
	nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
	nftnl_rule_nlmsg_build_payload(
		batch_message(nft, NFT_MSG_NEWRULE, NLM_F_APPEND | NLM_F_CREATE), rule);
	batch_next(nft);
	nftnl_rule_free(rule);
}

/* All rules of the table. */
static void delete_rules(struct nft *nft)
{
	struct nftnl_rule *rule = new_rule(nft);
	if (!rule)
		return;
	nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, nft->table);
	nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
	nftnl_rule_nlmsg_build_payload(batch_message(nft, NFT_MSG_DELRULE, 0), rule);
	batch_next(nft);
	nftnl_rule_free(rule);
}

static void put_chain(struct nft *nft, uint16_t type, const char *name, bool is_base)
{
	struct nftnl_chain *chain = nftnl_chain_alloc();
	if (!chain) {
		nft->failed = true;
		return;
	}
	nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, nft->table);
	nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
	if (is_base && type == NFT_MSG_NEWCHAIN) {
		nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, "filter");
		nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, NF_INET_FORWARD);
		nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, nft->config.priority);
		nftnl_chain_set_u32(
			chain, NFTNL_CHAIN_POLICY, nft->config.enforce ? NF_DROP : NF_ACCEPT);
	}
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
	struct nftnl_expr *limit = new_expr(nft, "limit"), *counter = new_expr(nft, "counter");
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

/* map c4_SHARD { type ipv4_addr . ipv4_addr . inet_proto . inet_service : ipv6_addr;
 *                flags timeout; limit ...; counter } */
static void put_map(struct nft *nft, bool ipv6, bool oneway, uint32_t shard, uint32_t id)
{
	uint8_t fields[4] = {ipv6 ? 16 : 4, ipv6 ? 16 : 4, 1, 2};
	uint32_t addr = ipv6 ? TYPE_IPV6 : TYPE_IPV4;
	char name[16];
	nft_map_name(name, ipv6, oneway, shard);
	struct nftnl_set *set = new_set(nft, name, id);
	if (!set)
		return;
	nftnl_set_set_u32(set, NFTNL_SET_FLAGS,
		NFT_SET_MAP | NFT_SET_TIMEOUT | NFT_SET_EXPR | NFT_SET_CONCAT);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE,
		(((((addr << 6) | addr) << 6) | TYPE_PROTO) << 6) | TYPE_SERVICE);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, ipv6 ? NFT_KEY6_BYTES : NFT_KEY4_BYTES);
	nftnl_set_set_data(set, NFTNL_SET_DESC_CONCAT, fields, sizeof fields);
	nftnl_set_set_u32(set, NFTNL_SET_DESC_SIZE, MAP_SIZE);
	nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, TYPE_IPV6);
	nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, 16);
	add_default_expressions(nft, set);
	put_set(nft, set);
	nftnl_set_free(set);
}

/* ct label set KEY map @MAP ct mark set ct mark | BITS accept */
static void put_door_rule(
	struct nft *nft, const char *chain, bool ipv6, bool oneway, uint32_t shard, uint32_t set_id)
{
	struct nftnl_rule *rule = new_rule(nft);
	uint32_t bits = nft->config.mark | (oneway ? nft->config.mark_oneway : 0);
	uint32_t reg = NFT_REG32_00 + (ipv6 ? 10 : 4);
	char map[16];
	nft_map_name(map, ipv6, oneway, shard);
	if (oneway)
		match_byte(nft, rule, NFT_META_L4PROTO, IPPROTO_UDP);
	load_key(nft, rule, ipv6);
	lookup(nft, rule, map, set_id, reg);
	store_ct(nft, rule, NFT_CT_LABELS, reg);
	load_ct(nft, rule, NFT_CT_MARK, NFT_REG_1);
	bitwise(nft, rule, NFT_REG_1, ~bits, bits);
	store_ct(nft, rule, NFT_CT_MARK, NFT_REG_1);
	verdict(nft, rule, NF_ACCEPT);
	put_rule(nft, rule, chain);
}

static void shard_chain(char name[static 16], bool ipv6, uint32_t shard)
{
	snprintf(name, 16, "s%c_%02x", ipv6 ? '6' : '4', shard & (NFT_SHARDS - 1));
}

static bool add_dispatch_element(struct nftnl_set *set, bool ipv6, uint32_t shard)
{
	struct nftnl_set_elem *element = nftnl_set_elem_alloc();
	char chain[16];
	if (!element)
		return false;
	shard_chain(chain, ipv6, shard);
	nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, &shard, sizeof shard);
	nftnl_set_elem_set_u32(element, NFTNL_SET_ELEM_VERDICT, (uint32_t)NFT_JUMP);
	nftnl_set_elem_set_str(element, NFTNL_SET_ELEM_CHAIN, chain);
	nftnl_set_elem_add(set, element);
	return true;
}

/* map v4 { type integer : verdict; elements = { 0 : jump s4_00, ... } } */
static void put_dispatch(struct nft *nft, bool ipv6, uint32_t id)
{
	struct nftnl_set *set = new_set(nft, ipv6 ? "v6" : "v4", id);
	if (!set)
		return;
	nftnl_set_set_u32(set, NFTNL_SET_FLAGS, NFT_SET_MAP);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, TYPE_INTEGER);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, sizeof(uint32_t));
	nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, TYPE_VERDICT);
	nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, 16);
	put_set(nft, set);
	for (uint32_t shard = 0; shard < NFT_SHARDS; shard++)
		nft->failed |= !add_dispatch_element(set, ipv6, shard);
	nftnl_set_elems_nlmsg_build_payload(
		batch_message(nft, NFT_MSG_NEWSETELEM, NLM_F_CREATE), set);
	batch_next(nft);
	nftnl_set_free(set);
}

/* meta nfproto ipv4 ct state new jhash KEY mod 64 seed S vmap @v4 */
static void put_dispatch_rule(struct nft *nft, bool ipv6, uint32_t set_id)
{
	struct nftnl_rule *rule = new_rule(nft);
	match_byte(nft, rule, NFT_META_NFPROTO, ipv6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
	match_state(nft, rule, NF_CT_STATE_BIT(IP_CT_NEW));
	load_key(nft, rule, ipv6);
	struct nftnl_expr *hash = add(nft, rule, "hash");
	put32(hash, NFTNL_EXPR_HASH_SREG, NFT_REG32_00);
	put32(hash, NFTNL_EXPR_HASH_DREG, NFT_REG32_00);
	put32(hash, NFTNL_EXPR_HASH_LEN, ipv6 ? NFT_KEY6_BYTES : NFT_KEY4_BYTES);
	put32(hash, NFTNL_EXPR_HASH_MODULUS, NFT_SHARDS);
	put32(hash, NFTNL_EXPR_HASH_SEED, NFT_HASH_SEED);
	put32(hash, NFTNL_EXPR_HASH_TYPE, NFT_HASH_JENKINS);
	lookup(nft, rule, ipv6 ? "v6" : "v4", set_id, NFT_REG_VERDICT);
	put_rule(nft, rule, "forward");
}

static void put_forward_rules(struct nft *nft)
{
	uint32_t both = nft->config.mark | nft->config.mark_oneway;
	uint8_t reply = 1; /* IP_CT_DIR_REPLY */
	/* meta l4proto udp ct mark & BOTH == BOTH ct direction reply drop; not the remote's ICMP
	 * errors, which path MTU discovery needs */
	struct nftnl_rule *rule = new_rule(nft);
	match_byte(nft, rule, NFT_META_L4PROTO, IPPROTO_UDP);
	match_mark(nft, rule, both, NFT_CMP_EQ, both);
	load_ct(nft, rule, NFT_CT_DIRECTION, NFT_REG_1);
	compare(nft, rule, NFT_REG_1, NFT_CMP_EQ, &reply, sizeof reply);
	verdict(nft, rule, NF_DROP);
	put_rule(nft, rule, "forward");
	/* ct mark & BIT != 0 accept */
	rule = new_rule(nft);
	match_mark(nft, rule, nft->config.mark, NFT_CMP_NEQ, 0);
	verdict(nft, rule, NF_ACCEPT);
	put_rule(nft, rule, "forward");
	if (!nft->config.enforce)
		return;
	/* ct state established accept */
	rule = new_rule(nft);
	match_state(nft, rule, NF_CT_STATE_BIT(IP_CT_ESTABLISHED));
	verdict(nft, rule, NF_ACCEPT);
	put_rule(nft, rule, "forward");
	/* ct state related meta l4proto icmp (icmpv6) accept: errors of flows that are allowed */
	for (int i = 0; i < 2; i++) {
		rule = new_rule(nft);
		match_byte(nft, rule, NFT_META_L4PROTO, i ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
		match_state(nft, rule, NF_CT_STATE_BIT(IP_CT_RELATED));
		verdict(nft, rule, NF_ACCEPT);
		put_rule(nft, rule, "forward");
	}
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
	for (uint32_t shard = 0; shard < NFT_SHARDS; shard++) {
		char chain[16];
		shard_chain(chain, ipv6, shard);
		put_chain(nft, NFT_MSG_NEWCHAIN, chain, false);
		for (int oneway = 0; oneway < 2; oneway++, ++*id) {
			put_map(nft, ipv6, oneway, shard, *id);
			put_door_rule(nft, chain, ipv6, oneway, shard, *id);
		}
	}
	put_dispatch(nft, ipv6, *id);
	put_dispatch_rule(nft, ipv6, (*id)++);
}

void nft_build_table(struct nft *nft, enum nft_build how, bool exists)
{
	uint32_t id = 1;
	if (exists && how == NFT_BUILD_NEW_TABLE)
		put_table(nft, NFT_MSG_DELTABLE);
	put_table(nft, NFT_MSG_NEWTABLE);
	if (exists && how != NFT_BUILD_NEW_TABLE)
		delete_rules(nft);
	if (exists && how == NFT_BUILD_NEW_CHAIN)
		put_chain(nft, NFT_MSG_DELCHAIN, "forward", true);
	put_chain(nft, NFT_MSG_NEWCHAIN, "forward", true);
	put_forward_rules(nft);
	put_family(nft, false, &id);
	put_family(nft, true, &id);
}
