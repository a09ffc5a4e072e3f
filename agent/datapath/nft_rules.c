/* The rules of the table as libnftnl expressions. The words of nft.h stand above the code that
 * builds them. */
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>

#include "agent/datapath/nft_internal.h"

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

static struct nftnl_expr *verdict(struct nft *nft, struct nftnl_rule *rule, uint32_t code)
{
	struct nftnl_expr *expr = add(nft, rule, "immediate");
	put32(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	put32(expr, NFTNL_EXPR_IMM_VERDICT, code);
	return expr;
}

/* KEY @set */
static void match_set(struct nft *nft, struct nftnl_rule *rule, const struct nft_map *map)
{
	struct nftnl_expr *expr = add(nft, rule, "lookup");
	char name[16];
	nft_map_name(name, map);
	if (expr)
		(void)nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, name);
	put32(expr, NFTNL_EXPR_LOOKUP_SREG, NFT_REG32_00);
}

/* KEY map @name */
static struct nftnl_expr *lookup(
	struct nft *nft, struct nftnl_rule *rule, const char *name, uint32_t to)
{
	struct nftnl_expr *expr = add(nft, rule, "lookup");
	if (expr)
		(void)nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, name);
	put32(expr, NFTNL_EXPR_LOOKUP_SREG, NFT_REG32_00);
	put32(expr, NFTNL_EXPR_LOOKUP_DREG, to);
	return expr;
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

static void match_family(struct nft *nft, struct nftnl_rule *rule, bool ipv6)
{
	match_byte(nft, rule, NFT_META_NFPROTO, ipv6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
}

/* saddr . daddr . l4proto . dport, or without saddr; four bytes a field at least, from NFT_REG32_00
 * on. Returns the next free register. */
static uint32_t load_key(struct nft *nft, struct nftnl_rule *rule, bool ipv6, bool by_to)
{
	uint32_t size = ipv6 ? 16 : 4, reg = NFT_REG32_00;
	uint32_t source = ipv6 ? 8 : 12; /* in the IP header */
	if (!by_to) {
		load_payload(nft, rule, NFT_PAYLOAD_NETWORK_HEADER, source, size, reg);
		reg += size / 4;
	}
	load_payload(nft, rule, NFT_PAYLOAD_NETWORK_HEADER, source + size, size, reg);
	reg += size / 4;
	load_meta(nft, rule, NFT_META_L4PROTO, reg++);
	load_payload(nft, rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, reg++);
	return reg;
}

static uint32_t load_key_of(struct nft *nft, struct nftnl_rule *rule, const struct nft_map *map)
{
	uint32_t reg = load_key(nft, rule, map->ipv6, nft_map_is_keyed_by_to(map->kind));
	if (!map->translated)
		return reg;
	struct nftnl_expr *expr = add(nft, rule, "ct"); /* ct original proto-dst */
	put32(expr, NFTNL_EXPR_CT_KEY, NFT_CT_PROTO_DST);
	if (expr)
		nftnl_expr_set_u8(expr, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
	put32(expr, NFTNL_EXPR_CT_DREG, reg);
	return reg + 1;
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
void nft_delete_rules(struct nft *nft)
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

/* ---- doors ---- */

/* ct mark set ct mark | BITS accept */
static void mark_and_accept(struct nft *nft, struct nftnl_rule *rule, bool oneway)
{
	uint32_t bits = nft->config.mark | (oneway ? nft->config.mark_oneway : 0);
	load_ct(nft, rule, NFT_CT_MARK, NFT_REG_1);
	bitwise(nft, rule, NFT_REG_1, ~bits, bits);
	store_ct(nft, rule, NFT_CT_MARK, NFT_REG_1);
	(void)verdict(nft, rule, NF_ACCEPT);
}

/* [KEY @TIMES] ct label set KEY map @MAP */
static void label_by(struct nft *nft, struct nftnl_rule *rule, struct nft_map map)
{
	char name[16];
	struct nft_map times = map;
	if (nft->renewal == NFT_RENEW_REPLACE && map.kind != MAP_WIDE_GRANT) {
		times.kind = map.kind == MAP_EXACT ? MAP_EXACT_TIME : MAP_ANYBODY_TIME;
		(void)load_key_of(nft, rule, &times);
		match_set(nft, rule, &times);
	}
	uint32_t reg = load_key_of(nft, rule, &map);
	nft_map_name(name, &map);
	(void)lookup(nft, rule, name, reg);
	store_ct(nft, rule, NFT_CT_LABELS, reg);
}

/* limit name KEY map @wl4, or counter name KEY map @wc4 */
static void refer_by(struct nft *nft, struct nftnl_rule *rule, struct nft_map map)
{
	char name[16];
	nft_map_name(name, &map);
	(void)load_key_of(nft, rule, &map);
	struct nftnl_expr *expr = add(nft, rule, "objref");
	put32(expr, NFTNL_EXPR_OBJREF_SET_SREG, NFT_REG32_00);
	if (expr)
		(void)nftnl_expr_set_str(expr, NFTNL_EXPR_OBJREF_SET_NAME, name);
}

void nft_shard_chain(char name[static 16], bool ipv6, uint32_t shard)
{
	snprintf(name, 16, "s%c_%02x", ipv6 ? '6' : '4', shard & (NFT_SHARDS - 1));
}

static void put_exact_rules(struct nft *nft, struct nft_map map, const char *chain)
{
	for (int oneway = 0; oneway < 2; oneway++) {
		struct nftnl_rule *rule = new_rule(nft);
		match_family(nft, rule, map.ipv6); /* nft needs it to print and parse the key */
		if (oneway)
			match_byte(nft, rule, NFT_META_L4PROTO, IPPROTO_UDP);
		map.oneway = oneway;
		label_by(nft, rule, map);
		mark_and_accept(nft, rule, oneway);
		put_rule(nft, rule, chain);
	}
}

void nft_put_shard_rules(struct nft *nft, bool ipv6, uint32_t shard)
{
	char chain[16];
	nft_shard_chain(chain, ipv6, shard);
	put_exact_rules(
		nft, (struct nft_map){.kind = MAP_EXACT, .ipv6 = ipv6, .shard = shard}, chain);
}

static struct nftnl_rule *new_flow_rule(struct nft *nft, bool ipv6)
{
	struct nftnl_rule *rule = new_rule(nft);
	match_family(nft, rule, ipv6);
	match_state(nft, rule, NF_CT_STATE_BIT(IP_CT_NEW));
	return rule;
}

/* meta nfproto ipv4 ct state new jhash KEY mod 64 seed S vmap { 0 : jump s4_00, ... } */
static void put_dispatch_rule(struct nft *nft, bool ipv6, uint32_t dispatch)
{
	struct nftnl_rule *rule = new_flow_rule(nft, ipv6);
	(void)load_key(nft, rule, ipv6, false);
	struct nftnl_expr *hash = add(nft, rule, "hash");
	put32(hash, NFTNL_EXPR_HASH_SREG, NFT_REG32_00);
	put32(hash, NFTNL_EXPR_HASH_DREG, NFT_REG32_00);
	put32(hash, NFTNL_EXPR_HASH_LEN, ipv6 ? NFT_KEY6_BYTES : NFT_KEY4_BYTES);
	put32(hash, NFTNL_EXPR_HASH_MODULUS, NFT_SHARDS);
	put32(hash, NFTNL_EXPR_HASH_SEED, NFT_HASH_SEED);
	put32(hash, NFTNL_EXPR_HASH_TYPE, NFT_HASH_JENKINS);
	struct nftnl_expr *jump = lookup(nft, rule, NFT_ANONYMOUS_MAP, NFT_REG_VERDICT);
	put32(jump, NFTNL_EXPR_LOOKUP_SET_ID, dispatch);
	put_rule(nft, rule, "forward");
}

static void put_wide_rule(struct nft *nft, struct nft_map map, const char *chain)
{
	static const enum nft_map_kind objects[] = {MAP_WIDE_LIMIT, MAP_WIDE_COUNTER};
	struct nftnl_rule *rule = new_flow_rule(nft, map.ipv6);
	if (map.oneway)
		match_byte(nft, rule, NFT_META_L4PROTO, IPPROTO_UDP);
	for (size_t i = 0; i < 2; i++) {
		map.kind = objects[i];
		refer_by(nft, rule, map);
	}
	map.kind = MAP_WIDE_GRANT;
	label_by(nft, rule, map);
	mark_and_accept(nft, rule, map.oneway);
	put_rule(nft, rule, chain);
}

static void put_anybody_rule(struct nft *nft, struct nft_map map, const char *chain)
{
	struct nftnl_rule *rule = new_flow_rule(nft, map.ipv6);
	if (map.oneway)
		match_byte(nft, rule, NFT_META_L4PROTO, IPPROTO_UDP);
	map.kind = MAP_ANYBODY;
	label_by(nft, rule, map);
	mark_and_accept(nft, rule, map.oneway);
	put_rule(nft, rule, chain);
}

/* Doors whose keys are not sharded; both ways of UDP. */
static void put_other_rules(struct nft *nft, struct nft_map map, const char *chain)
{
	for (int oneway = 0; oneway < 2; oneway++) {
		map.oneway = oneway;
		put_wide_rule(nft, map, chain);
	}
	for (int oneway = 0; oneway < 2; oneway++) {
		map.oneway = oneway;
		put_anybody_rule(nft, map, chain);
	}
}

/* ---- doors with an external address that leads inside ---- */

void nft_translated_chain(char name[static 16], bool ipv6)
{
	snprintf(name, 16, "n%c", ipv6 ? '6' : '4');
}

void nft_put_translated_rules(struct nft *nft, bool ipv6)
{
	const struct nft_map map = {.kind = MAP_EXACT, .ipv6 = ipv6, .translated = true};
	char chain[16];
	nft_translated_chain(chain, ipv6);
	put_exact_rules(nft, map, chain);
	put_other_rules(nft, map, chain);
}

/* meta nfproto ipv4 ct state new ct status dnat jump n4 */
static void put_translated_jump(struct nft *nft, bool ipv6)
{
	struct nftnl_rule *rule = new_flow_rule(nft, ipv6);
	char chain[16];
	uint32_t none = 0;
	load_ct(nft, rule, NFT_CT_STATUS, NFT_REG_1);
	bitwise(nft, rule, NFT_REG_1, IPS_DST_NAT, 0);
	compare(nft, rule, NFT_REG_1, NFT_CMP_NEQ, &none, sizeof none);
	struct nftnl_expr *jump = verdict(nft, rule, (uint32_t)NFT_JUMP);
	nft_translated_chain(chain, ipv6);
	if (jump && nftnl_expr_set_str(jump, NFTNL_EXPR_IMM_CHAIN, chain) < 0)
		nft->failed = true;
	put_rule(nft, rule, "forward");
}

/* ---- translations ---- */

/* dnat ip to KEY map @d4, ct mark & BIT != 0 snat ip to KEY map @x4 ... */
static void put_nat_rule(struct nft *nft, bool ipv6, enum nft_map_kind kind)
{
	struct nftnl_rule *rule = new_rule(nft);
	bool is_dnat = kind == MAP_DNAT || kind == MAP_DNAT_ANYBODY;
	const struct nft_map map = {.kind = kind, .ipv6 = ipv6};
	char name[16];
	nft_map_name(name, &map);
	match_family(nft, rule, ipv6);
	if (!is_dnat)
		match_mark(nft, rule, nft->config.mark, NFT_CMP_NEQ, 0);
	(void)load_key_of(nft, rule, &map);
	(void)lookup(nft, rule, name, NFT_REG32_00);
	struct nftnl_expr *nat = add(nft, rule, "nat");
	put32(nat, NFTNL_EXPR_NAT_TYPE, is_dnat ? NFT_NAT_DNAT : NFT_NAT_SNAT);
	put32(nat, NFTNL_EXPR_NAT_FAMILY, ipv6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
	put32(nat, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG32_00);
	if (kind != MAP_SNAT)
		put32(nat, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG32_00 + (ipv6 ? 4 : 1));
	put_rule(nft, rule, is_dnat ? "prerouting" : "postrouting");
}

void nft_put_family_rules(struct nft *nft, bool ipv6, uint32_t dispatch)
{
	put_translated_jump(nft, ipv6);
	put_dispatch_rule(nft, ipv6, dispatch);
	put_other_rules(nft, (struct nft_map){.ipv6 = ipv6}, "forward");
	put_nat_rule(nft, ipv6, MAP_DNAT);
	put_nat_rule(nft, ipv6, MAP_DNAT_ANYBODY);
	put_nat_rule(nft, ipv6, MAP_SNAT_PORT);
	put_nat_rule(nft, ipv6, MAP_SNAT);
}

/* ---- what comes before doors ---- */

/* A flow begins with a SYN: what was cut cannot go on, and no stray segment uses a door up.
 * meta l4proto tcp ct state new tcp flags & (fin | syn | rst | ack) != syn return */
static void put_syn_rule(struct nft *nft)
{
	struct nftnl_rule *rule = new_rule(nft);
	uint32_t mask = TH_FIN | TH_SYN | TH_RST | TH_ACK;
	uint8_t syn = TH_SYN, bits[4] = {(uint8_t)mask}, none[4] = {0};
	match_byte(nft, rule, NFT_META_L4PROTO, IPPROTO_TCP);
	match_state(nft, rule, NF_CT_STATE_BIT(IP_CT_NEW));
	load_payload(nft, rule, NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, NFT_REG_1);
	struct nftnl_expr *expr = add(nft, rule, "bitwise");
	put32(expr, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	put32(expr, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	put32(expr, NFTNL_EXPR_BITWISE_LEN, 1);
	put(expr, NFTNL_EXPR_BITWISE_MASK, bits, 1);
	put(expr, NFTNL_EXPR_BITWISE_XOR, none, 1);
	compare(nft, rule, NFT_REG_1, NFT_CMP_NEQ, &syn, sizeof syn);
	(void)verdict(nft, rule, (uint32_t)NFT_RETURN);
	put_rule(nft, rule, "forward");
}

void nft_put_live_rules(struct nft *nft)
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
	(void)verdict(nft, rule, NF_DROP);
	put_rule(nft, rule, "forward");
	/* ct mark & BIT != 0 accept */
	rule = new_rule(nft);
	match_mark(nft, rule, nft->config.mark, NFT_CMP_NEQ, 0);
	(void)verdict(nft, rule, NF_ACCEPT);
	put_rule(nft, rule, "forward");
	if (!nft->config.enforce)
		return;
	/* ct state established accept */
	rule = new_rule(nft);
	match_state(nft, rule, NF_CT_STATE_BIT(IP_CT_ESTABLISHED));
	(void)verdict(nft, rule, NF_ACCEPT);
	put_rule(nft, rule, "forward");
	/* ct state related meta l4proto icmp (icmpv6) accept: errors of flows that are allowed */
	for (int i = 0; i < 2; i++) {
		rule = new_rule(nft);
		match_byte(nft, rule, NFT_META_L4PROTO, i ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
		match_state(nft, rule, NF_CT_STATE_BIT(IP_CT_RELATED));
		(void)verdict(nft, rule, NF_ACCEPT);
		put_rule(nft, rule, "forward");
	}
}

void nft_put_forward_rules(struct nft *nft)
{
	nft_put_live_rules(nft);
	put_syn_rule(nft);
}
