/* Installation works on whatever is there, from nothing to a table that another program has pulled
 * apart: tables, chains and maps are created unless they exist, all rules are deleted and written
 * anew. Nobody sees a state in between, and elements are not touched. What an existing object
 * forbids (another priority, maps of another shape) the kernel answers with an error, and the next,
 * more drastic way is tried.
 *
 * The table's comment tells its shape, its way of renewal and the boot that it is of:
 * "postern schema 3 in-place boot ...". */
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"

#define BOOT " boot "

void nft_write_comment(struct nft *nft)
{
	snprintf(nft->comment, sizeof nft->comment, NFT_SCHEMA " %s" BOOT "%.80s",
		nft->renewal == NFT_RENEW_REPLACE ? "replace" : "in-place", nft->config.boot_id);
}

struct found_table {
	const struct nft *nft;
	bool found, same; /* as it should be */
	bool same_boot; /* its doors are ours */
	enum nft_renewal renewal;
};

static int parse_comment(const struct nftnl_udata *attr, void *arg)
{
	const char **comment = arg;
	const char *text = nftnl_udata_get(attr);
	uint8_t size = nftnl_udata_len(attr);
	if (nftnl_udata_type(attr) == NFTNL_UDATA_TABLE_COMMENT && size > 0 &&
		text[size - 1] == '\0')
		*comment = text;
	return 0;
}

static void read_table_comment(const char *comment, struct found_table *found)
{
	const char *boot = strstr(comment, BOOT);
	const char *our_boot = strstr(found->nft->comment, BOOT);
	found->found = true;
	found->same = strcmp(comment, found->nft->comment) == 0;
	found->same_boot = boot && strcmp(boot, our_boot) == 0;
	found->renewal = strstr(comment, " replace" BOOT) ? NFT_RENEW_REPLACE : NFT_RENEW_IN_PLACE;
}

static int on_table(const struct nlmsghdr *message, void *arg)
{
	struct found_table *found = arg;
	struct nftnl_table *table = nftnl_table_alloc();
	const char *comment = NULL;
	uint32_t size = 0;
	if (!table)
		return nft_no_memory();
	const char *name = nftnl_table_nlmsg_parse(message, table) < 0
		? NULL
		: nftnl_table_get_str(table, NFTNL_TABLE_NAME);
	if (name && strcmp(name, found->nft->table) == 0 &&
		nftnl_table_get_u32(table, NFTNL_TABLE_FAMILY) == NFPROTO_INET) {
		const void *data = nftnl_table_get_data(table, NFTNL_TABLE_USERDATA, &size);
		if (data && size > 0)
			(void)nftnl_udata_parse(data, size, parse_comment, &comment);
		read_table_comment(comment ? comment : "", found);
	}
	nftnl_table_free(table);
	return MNL_CB_OK;
}

static enum status find_table(struct nft *nft, struct found_table *ret_found, struct error *err)
{
	char request[1024];
	enum status status;
	do {
		*ret_found = (struct found_table){.nft = nft};
		struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
			request, NFT_MSG_GETTABLE, NFPROTO_INET, NLM_F_DUMP, nft->sequence++);
		status = nft_query(nft, message, on_table, ret_found, err);
	} while (status == STATUS_ABORTED);
	return status;
}

struct first_refusal {
	int errnum;
	size_t index;
};

static void note_refusal(void *arg, size_t index, int errnum)
{
	struct first_refusal *first = arg;
	if (first->errnum == 0)
		*first = (struct first_refusal){errnum, index};
}

static enum status build(struct nft *nft, enum nft_build how, bool exists, struct error *err)
{
	struct first_refusal refusal = {0};
	batch_begin(nft);
	nft_build_table(nft, how, exists);
	enum status status = batch_commit(nft, note_refusal, &refusal, err);
	if (refusal.errnum)
		return error_errno(err, STATUS_ABORTED, refusal.errnum,
			"nftables: the kernel refused message %zu of table inet %s (has it "
			"nf_tables with ct, hash, limit and nat?)",
			refusal.index, nft->table);
	return status;
}

/* The doors that can go into another table, with the uses they have left. */
static size_t doors_left(const struct held_door *held, size_t count, struct door *ret_doors)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		struct door door = held[i].door;
		bool used_up = door.uses && held[i].counter >= door.uses;
		if (used_up || held[i].expired || held[i].incomplete)
			continue;
		if (door.uses)
			door.uses -= held[i].counter;
		ret_doors[kept++] = door;
	}
	return kept;
}

/* A table of another shape is replaced; the doors it held go into the new one, with the uses and
 * the time they have left. Nobody is let in from before they are counted until they are there
 * again, so that no use is given twice (I4); live flows go on. */
static enum status replace(struct nft *nft, enum nft_renewal from, struct error *err)
{
	struct held_door *held = NULL;
	size_t count = 0, kept = 0, failed = 0;
	batch_begin(nft);
	nft_build_closed(nft);
	(void)batch_commit(nft, NULL, NULL, NULL); /* a table without its chains lets nobody in */
	/* Unreadable: a snapshot brings them. */
	(void)nft_dump_doors(nft, from, true, &held, &count, NULL);
	struct door *doors = calloc(count + 1, sizeof *doors);
	struct door_failure *failures = calloc(count + 1, sizeof *failures);
	if (doors)
		kept = doors_left(held, count, doors);
	enum status status = build(nft, NFT_BUILD_NEW_TABLE, true, err);
	if (!status && doors && failures)
		(void)nft_apply(nft, &(struct nft_change){.add = doors, .add_count = kept},
			failures, &failed, NULL);
	free(held);
	free(doors);
	free(failures);
	return status;
}

enum status nft_install(struct nft *nft, enum nft_adoption *ret_adoption, struct error *err)
{
	struct found_table found;
	enum status status = find_table(nft, &found, err);
	bool adopted = false;
	if (status)
		return status;
	if (found.found && !found.same_boot) {
		/* Its doors were armed anew when it was loaded. */
		status = build(nft, NFT_BUILD_NEW_TABLE, true, err);
	} else if (found.found && !found.same) {
		status = replace(nft, found.renewal, err);
	} else {
		status = build(nft, NFT_BUILD_ONTO, found.found, err);
		if (status == STATUS_ABORTED && found.found)
			status = build(nft, NFT_BUILD_NEW_CHAIN, true, err);
		adopted = !status;
		if (status == STATUS_ABORTED && found.found)
			status = replace(nft, found.renewal, err);
	}
	if (!status)
		*ret_adoption = !found.found ? NFT_CREATED : adopted ? NFT_ADOPTED : NFT_REPLACED;
	return status;
}
