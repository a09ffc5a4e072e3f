/* Other programs' hands on the ruleset: what they changed in our table, and what of theirs stands
 * in our way.
 *
 * The kernel tells every committed change to whoever listens, our own doors included; a socket
 * filter drops our own transactions by their port id (all notifications of one transaction carry
 * it), so that a busy agent is not woken by itself. */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/datapath/nft_internal.h"

#define NOTIFICATION_BYTES (64 * 1024)
#define NOTIFICATIONS_MOST 1024 /* a call */

int nft_watch_fd(const struct nft *nft)
{
	return mnl_socket_get_fd(nft->watch);
}

void nft_watch_filter(struct nft *nft)
{
	/* Classic BPF loads big-endian words: compare with the port id as it lies in memory. */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __builtin_bswap32(nft_portid(nft)), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	code[1].k = nft_portid(nft);
#endif
	struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
	/* Without it we only wake up more often. */
	(void)setsockopt(nft_watch_fd(nft), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

struct watch {
	const struct nft *nft;
	struct nft_changes changes;
};

/* Every message that names a table has its name in attribute 1. */
static const char *table_of(const struct nlmsghdr *message)
{
	const struct nlattr *attr = mnl_nlmsg_get_payload_offset(message, sizeof(struct nfgenmsg));
	const char *end = mnl_nlmsg_get_payload_tail(message);
	for (; mnl_attr_ok(attr, (int)(end - (const char *)attr)); attr = mnl_attr_next(attr)) {
		if (mnl_attr_get_type(attr) != NFTA_TABLE_NAME)
			continue;
		return mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0 ? NULL
									: mnl_attr_get_str(attr);
	}
	return NULL;
}

static int on_notification(const struct nlmsghdr *message, void *arg)
{
	struct watch *watch = arg;
	if (message->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
		message->nlmsg_pid == nft_portid(watch->nft) ||
		mnl_nlmsg_get_payload_len(message) < sizeof(struct nfgenmsg))
		return MNL_CB_OK;
	const struct nfgenmsg *header = mnl_nlmsg_get_payload(message);
	int type = message->nlmsg_type & 0xff;
	if (type == NFT_MSG_NEWGEN)
		return MNL_CB_OK;
	const char *table = table_of(message);
	bool ours = header->nfgen_family == NFPROTO_INET && table &&
		strcmp(table, watch->nft->table) == 0;
	/* Elements and objects: doors in our table, nothing that drops in another's. */
	bool is_content = type == NFT_MSG_NEWSETELEM || type == NFT_MSG_DELSETELEM ||
		type == NFT_MSG_NEWOBJ || type == NFT_MSG_DELOBJ;
	if (!ours)
		watch->changes.others |= !is_content;
	else if (is_content)
		watch->changes.doors = true;
	else
		watch->changes.table = watch->changes.doors = true;
	return MNL_CB_OK;
}

void nft_watch(struct nft *nft, struct nft_changes *ret_changes)
{
	static _Alignas(struct nlmsghdr) char bytes[NOTIFICATION_BYTES]; /* one loop thread */
	struct watch watch = {.nft = nft};
	for (int i = 0; i < NOTIFICATIONS_MOST; i++) {
		ssize_t size = mnl_socket_recvfrom(nft->watch, bytes, sizeof bytes);
		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && (errno == ENOBUFS || errno == ENOSPC)) {
			/* Some were lost: look at everything. */
			watch.changes = (struct nft_changes){true, true, true};
			continue;
		}
		if (size <= 0)
			break;
		(void)mnl_cb_run(bytes, (size_t)size, 0, 0, on_notification, &watch);
	}
	*ret_changes = watch.changes;
}

/* ---- problems ---- */

#define CHAINS_MOST 16

struct foreign_chain {
	uint32_t family;
	bool policy_drop, drops, heeds_mark;
	char table[64], name[64];
};

struct problems {
	struct nft *nft;
	struct foreign_chain chains[CHAINS_MOST], *looked_at;
	size_t count;
};

static int on_chain(const struct nlmsghdr *message, void *arg)
{
	struct problems *problems = arg;
	struct nftnl_chain *chain = nftnl_chain_alloc();
	if (!chain)
		return nft_no_memory();
	if (nftnl_chain_nlmsg_parse(message, chain) < 0 || problems->count == CHAINS_MOST ||
		!nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM) ||
		nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM) != NF_INET_FORWARD)
		goto out;
	const char *table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
	const char *name = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME);
	uint32_t family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
	bool ours = family == NFPROTO_INET && table && strcmp(table, problems->nft->table) == 0;
	if (!table || !name || ours ||
		(family != NFPROTO_INET && family != NFPROTO_IPV4 && family != NFPROTO_IPV6))
		goto out;
	struct foreign_chain *found = &problems->chains[problems->count++];
	*found = (struct foreign_chain){.family = family};
	found->policy_drop = nftnl_chain_is_set(chain, NFTNL_CHAIN_POLICY) &&
		nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_DROP;
	snprintf(found->table, sizeof found->table, "%s", table);
	snprintf(found->name, sizeof found->name, "%s", name);
out:
	nftnl_chain_free(chain);
	return MNL_CB_OK;
}

struct rule_content {
	bool reads_mark, accepts, drops;
};

static int on_expression(struct nftnl_expr *expr, void *arg)
{
	struct rule_content *content = arg;
	const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
	if (!name)
		return 0;
	if (strcmp(name, "ct") == 0 && nftnl_expr_is_set(expr, NFTNL_EXPR_CT_DREG) &&
		nftnl_expr_get_u32(expr, NFTNL_EXPR_CT_KEY) == NFT_CT_MARK)
		content->reads_mark = true;
	else if (strcmp(name, "reject") == 0)
		content->drops = true;
	else if (strcmp(name, "immediate") == 0 &&
		nftnl_expr_is_set(expr, NFTNL_EXPR_IMM_VERDICT)) {
		uint32_t verdict = nftnl_expr_get_u32(expr, NFTNL_EXPR_IMM_VERDICT);
		content->accepts |= verdict == NF_ACCEPT;
		content->drops |= verdict == NF_DROP;
	}
	return 0;
}

static int on_rule(const struct nlmsghdr *message, void *arg)
{
	struct foreign_chain *chain = ((struct problems *)arg)->looked_at;
	struct nftnl_rule *rule = nftnl_rule_alloc();
	struct rule_content content = {0};
	if (!rule)
		return nft_no_memory();
	const char *name = nftnl_rule_nlmsg_parse(message, rule) < 0
		? NULL
		: nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN);
	const char *table = name ? nftnl_rule_get_str(rule, NFTNL_RULE_TABLE) : NULL;
	if (table && strcmp(table, chain->table) == 0 && strcmp(name, chain->name) == 0) {
		(void)nftnl_expr_foreach(rule, on_expression, &content);
		chain->heeds_mark |= content.reads_mark && content.accepts;
		chain->drops |= content.drops;
	}
	nftnl_rule_free(rule);
	return MNL_CB_OK;
}

/* The kernel gives the rules of one chain only, if it is named. */
static void look_at_rules(struct problems *problems, struct foreign_chain *chain)
{
	struct nft *nft = problems->nft;
	char request[1024];
	struct nftnl_rule *rule = nftnl_rule_alloc();
	if (!rule)
		return;
	nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, chain->table);
	nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain->name);
	struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
		request, NFT_MSG_GETRULE, (uint16_t)chain->family, NLM_F_DUMP, nft->sequence++);
	nftnl_rule_nlmsg_build_payload(message, rule);
	nftnl_rule_free(rule);
	problems->looked_at = chain;
	(void)nft_query(nft, message, on_rule, problems, NULL);
}

static const char *family_name(uint32_t family)
{
	return family == NFPROTO_INET ? "inet" : family == NFPROTO_IPV4 ? "ip" : "ip6";
}

void nft_find_problems(struct nft *nft, char *text, size_t size)
{
	struct problems problems = {.nft = nft};
	char request[1024];
	size_t used = 0;
	text[0] = '\0';
	struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
		request, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NLM_F_DUMP, nft->sequence++);
	(void)nft_query(nft, message, on_chain, &problems, NULL);
	for (size_t i = 0; i < problems.count; i++) {
		struct foreign_chain *chain = &problems.chains[i];
		look_at_rules(&problems, chain);
		/* Who accepts by a conntrack mark knows of us. */
		if (chain->heeds_mark || (!chain->policy_drop && !chain->drops))
			continue;
		int n = snprintf(text + used, size - used,
			"%schain %s of table %s %s %s in the forward hook, which wins over our "
			"accept: "
			"accept ct mark & 0x%x there first",
			used ? "\n" : "", chain->name, family_name(chain->family), chain->table,
			chain->policy_drop ? "drops by policy" : "has rules that drop",
			nft->config.mark);
		if (n < 0 || (size_t)n >= size - used) {
			text[used] = '\0';
			return;
		}
		used += (size_t)n;
	}
}
