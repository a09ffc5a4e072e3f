/* What this kernel does with an element whose timeout is given again: since Linux 6.12 it is moved,
 * before it stays as it was. Versions say little (distributors carry changes back), so it is tried,
 * on a table of our own that goes with the socket should we be killed meanwhile. */
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>

#include "agent/datapath/nft_internal.h"

#define TABLE_OWNER 0x2 /* NFT_TABLE_F_OWNER, Linux 5.12 */
#define SET "times"
#define SHORT_MS 3600000ULL

static void name_table(const struct nft *nft, char name[static 64])
{
	snprintf(name, 64, "postern_probe_%u", nft_portid(nft));
}

static void put_table(struct nft *nft, uint16_t type)
{
	struct nftnl_table *table = nftnl_table_alloc();
	char name[64];
	if (!table) {
		nft->failed = true;
		return;
	}
	name_table(nft, name);
	nftnl_table_set_str(table, NFTNL_TABLE_NAME, name);
	nftnl_table_set_u32(table, NFTNL_TABLE_FAMILY, NFPROTO_INET);
	if (type == NFT_MSG_NEWTABLE)
		nftnl_table_set_u32(table, NFTNL_TABLE_FLAGS, TABLE_OWNER);
	nftnl_table_nlmsg_build_payload(
		batch_message(nft, type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0), table);
	batch_next(nft);
	nftnl_table_free(table);
}

static struct nftnl_set *new_set(const struct nft *nft, uint64_t timeout_ms)
{
	struct nftnl_set *set = nftnl_set_alloc();
	struct nftnl_set_elem *element = set ? nftnl_set_elem_alloc() : NULL;
	const uint32_t key = 0;
	char name[64];
	if (!element) {
		if (set)
			nftnl_set_free(set);
		return NULL;
	}
	name_table(nft, name);
	nftnl_set_set_str(set, NFTNL_SET_TABLE, name);
	nftnl_set_set_str(set, NFTNL_SET_NAME, SET);
	nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(set, NFTNL_SET_ID, 1);
	nftnl_set_set_u32(set, NFTNL_SET_FLAGS, NFT_SET_TIMEOUT);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, 4); /* integer */
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, sizeof key);
	nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, &key, sizeof key);
	if (timeout_ms)
		nftnl_set_elem_set_u64(element, NFTNL_SET_ELEM_TIMEOUT, timeout_ms);
	nftnl_set_elem_add(set, element);
	return set;
}

static void put_set(struct nft *nft, bool with_set, uint64_t timeout_ms)
{
	struct nftnl_set *set = new_set(nft, timeout_ms);
	if (!set) {
		nft->failed = true;
		return;
	}
	if (with_set) {
		nftnl_set_nlmsg_build_payload(
			batch_message(nft, NFT_MSG_NEWSET, NLM_F_CREATE), set);
		batch_next(nft);
	}
	nftnl_set_elems_nlmsg_build_payload(
		batch_message(nft, NFT_MSG_NEWSETELEM, NLM_F_CREATE), set);
	batch_next(nft);
	nftnl_set_free(set);
}

static int on_element(struct nftnl_set_elem *element, void *arg)
{
	*(uint64_t *)arg = nftnl_set_elem_get_u64(element, NFTNL_SET_ELEM_EXPIRATION);
	return 0;
}

static int on_elements(const struct nlmsghdr *message, void *arg)
{
	struct nftnl_set *set = nftnl_set_alloc();
	if (set && nftnl_set_elems_nlmsg_parse(message, set) >= 0)
		(void)nftnl_set_elem_foreach(set, on_element, arg);
	if (set)
		nftnl_set_free(set);
	return MNL_CB_OK;
}

static uint64_t time_left(struct nft *nft)
{
	char request[1024];
	uint64_t left_ms = 0;
	struct nftnl_set *set = new_set(nft, 0);
	if (!set)
		return 0;
	struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
		request, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_ACK, nft->sequence++);
	nftnl_set_elems_nlmsg_build_payload(message, set);
	nftnl_set_free(set);
	return nft_query(nft, message, on_elements, &left_ms, NULL) ? 0 : left_ms;
}

enum nft_renewal nft_probe_renewal(struct nft *nft)
{
	uint64_t left_ms = 0;
	batch_begin(nft);
	put_table(nft, NFT_MSG_NEWTABLE);
	put_set(nft, true, SHORT_MS);
	if (batch_commit(nft, NULL, NULL, NULL))
		return NFT_RENEW_REPLACE; /* works everywhere */
	batch_begin(nft);
	put_set(nft, false, 2 * SHORT_MS);
	if (!batch_commit(nft, NULL, NULL, NULL))
		left_ms = time_left(nft);
	batch_begin(nft);
	put_table(nft, NFT_MSG_DELTABLE);
	(void)batch_commit(nft, NULL, NULL, NULL);
	return left_ms > SHORT_MS ? NFT_RENEW_IN_PLACE : NFT_RENEW_REPLACE;
}
