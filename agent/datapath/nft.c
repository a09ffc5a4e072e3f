/* Design.
 *
 * A transaction is a netlink batch. Every message asks for an acknowledgement, and all of them are
 * read: the kernel applies all or nothing, reports every message it refuses, and the sequence
 * number says which one it was. nft_apply() then leaves the refused ones out and tries again, so
 * that one bad element does not sink its neighbours; a deletion of what has expired (ENOENT) is no
 * failure.
 *
 * Sizes: one message an element (about 250 bytes), at most a batch buffer of them per transaction;
 * larger sets take several transactions, each whole in itself. */
#include "agent/datapath/nft.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/datapath/nft_internal.h"

#define SOCKET_BYTES (8 * 1024 * 1024)

/* ---- transactions ---- */

void batch_begin(struct nft *nft)
{
	nft->batch = mnl_nlmsg_batch_start(nft->buffer, NFT_BATCH_BYTES);
	nftnl_batch_begin(mnl_nlmsg_batch_current(nft->batch), nft->sequence++);
	mnl_nlmsg_batch_next(nft->batch);
	nft->first_sequence = nft->sequence;
	nft->messages = 0;
}

struct nlmsghdr *batch_message(struct nft *nft, uint16_t type, uint16_t flags)
{
	nft->messages++;
	return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(nft->batch), type, NFPROTO_INET,
		(uint16_t)(flags | NLM_F_ACK), nft->sequence++);
}

void batch_next(struct nft *nft)
{
	mnl_nlmsg_batch_next(nft->batch);
}

bool batch_has_room(const struct nft *nft)
{
	return mnl_nlmsg_batch_size(nft->batch) < NFT_BATCH_BYTES - 16384;
}

/* Reads one datagram of acknowledgements. Returns how many messages were answered, -1 on failure.
 */
static int read_acks(struct nft *nft, void (*refused)(void *arg, size_t index, int errnum),
	void *arg, bool *ret_bad)
{
	ssize_t size = mnl_socket_recvfrom(nft->socket, nft->answer, NFT_ANSWER_BYTES);
	int answered = 0;
	if (size < 0)
		return errno == EINTR ? 0 : -1;
	int left = (int)size;
	for (const struct nlmsghdr *message = (const struct nlmsghdr *)nft->answer;
		mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
		if (message->nlmsg_type != NLMSG_ERROR ||
			mnl_nlmsg_get_payload_len(message) < sizeof(struct nlmsgerr))
			continue;
		const struct nlmsgerr *error = mnl_nlmsg_get_payload(message);
		uint32_t index = message->nlmsg_seq - nft->first_sequence;
		if (index >= nft->messages) {
			/* Of the batch's frame: the whole batch was refused (no permission, say).
			 */
			if (error->error == 0)
				continue;
			errno = -error->error;
			return -1;
		}
		answered++;
		if (error->error == 0)
			continue;
		*ret_bad = true;
		refused(arg, index, -error->error);
	}
	return answered;
}

enum status batch_commit(struct nft *nft, void (*refused)(void *arg, size_t index, int errnum),
	void *arg, struct error *err)
{
	bool bad = false;
	size_t answered = 0;
	nftnl_batch_end(mnl_nlmsg_batch_current(nft->batch), nft->sequence++);
	mnl_nlmsg_batch_next(nft->batch);
	ssize_t sent = mnl_socket_sendto(
		nft->socket, mnl_nlmsg_batch_head(nft->batch), mnl_nlmsg_batch_size(nft->batch));
	mnl_nlmsg_batch_stop(nft->batch);
	nft->batch = NULL;
	if (sent < 0)
		return error_errno(
			err, STATUS_UNAVAILABLE, errno, "nftables: cannot send a transaction");
	while (answered < nft->messages) {
		int n = read_acks(nft, refused, arg, &bad);
		if (n < 0)
			return error_errno(err, STATUS_UNAVAILABLE, errno,
				"nftables: the kernel refused the transaction");
		answered += (size_t)n;
	}
	return bad
		? error_set(err, STATUS_ABORTED, "nftables: a part of the transaction was refused")
		: STATUS_OK;
}

enum status nft_query(
	struct nft *nft, struct nlmsghdr *message, nft_dump_cb cb, void *arg, struct error *err)
{
	uint32_t sequence = message->nlmsg_seq;
	if (mnl_socket_sendto(nft->socket, message, message->nlmsg_len) < 0)
		return error_errno(
			err, STATUS_UNAVAILABLE, errno, "nftables: cannot ask the kernel");
	for (;;) {
		ssize_t size = mnl_socket_recvfrom(nft->socket, nft->answer, NFT_ANSWER_BYTES);
		int rc = size < 0
			? -1
			: mnl_cb_run(nft->answer, (size_t)size, sequence, nft_portid(nft), cb, arg);
		if (rc == MNL_CB_STOP)
			return STATUS_OK;
		if (rc < 0 && errno == ENOENT)
			return error_set(err, STATUS_NOT_FOUND, "nftables: not there");
		if (rc < 0 && errno == EINTR)
			return error_set(err, STATUS_ABORTED,
				"nftables: the ruleset changed during the dump");
		if (rc < 0)
			return error_errno(err, STATUS_UNAVAILABLE, errno,
				"nftables: cannot read from the kernel");
	}
}

uint32_t nft_portid(const struct nft *nft)
{
	return mnl_socket_get_portid(nft->socket);
}

/* ---- opening ---- */

static struct mnl_socket *open_socket(unsigned groups, struct error *err)
{
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	int size = SOCKET_BYTES;
	if (!socket || mnl_socket_bind(socket, groups, MNL_SOCKET_AUTOPID) < 0) {
		error_errno(err, STATUS_PERMISSION_DENIED, errno,
			"nftables: cannot open netlink: CAP_NET_ADMIN is needed");
		if (socket)
			mnl_socket_close(socket);
		return NULL;
	}
	int fd = mnl_socket_get_fd(socket);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	return socket;
}

enum status nft_open(const struct nft_config *config, struct nft **ret_nft, struct error *err)
{
	struct nft *nft = calloc(1, sizeof *nft);
	if (!nft)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	nft->config = *config;
	snprintf(nft->table, sizeof nft->table, "%s", config->table);
	nft->buffer =
		malloc(NFT_BATCH_BYTES * 2); /* libmnl lets the last message run past the limit */
	nft->answer = malloc(NFT_ANSWER_BYTES);
	nft->sequence = 1;
	if (!nft->buffer || !nft->answer) {
		nft_close(nft);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	nft->socket = open_socket(0, err);
	nft->watch = nft->socket ? open_socket(1U << (NFNLGRP_NFTABLES - 1), err) : NULL;
	if (!nft->watch) {
		nft_close(nft);
		return err->status;
	}
	int fd = mnl_socket_get_fd(nft->watch);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	*ret_nft = nft;
	return STATUS_OK;
}

void nft_close(struct nft *nft)
{
	if (!nft)
		return;
	if (nft->socket)
		mnl_socket_close(nft->socket);
	if (nft->watch)
		mnl_socket_close(nft->watch);
	free(nft->buffer);
	free(nft->answer);
	free(nft);
}

/* ---- adoption ---- */

void nft_describe(const struct nft *nft, char text[static 128])
{
	snprintf(text, 128, NFT_SCHEMA " %s priority %d mark 0x%08x oneway 0x%08x",
		nft->config.enforce ? "enforce" : "overlay", nft->config.priority, nft->config.mark,
		nft->config.mark_oneway);
}

struct found_table {
	const struct nft *nft;
	bool found, same;
};

static int parse_comment(const struct nftnl_udata *attr, void *arg)
{
	const char **comment = arg;
	if (nftnl_udata_type(attr) == NFTNL_UDATA_TABLE_COMMENT && nftnl_udata_len(attr) > 0)
		*comment = nftnl_udata_get(attr);
	return 0;
}

static int on_table(const struct nlmsghdr *message, void *arg)
{
	struct found_table *found = arg;
	struct nftnl_table *table = nftnl_table_alloc();
	char wanted[128];
	const char *comment = NULL;
	uint32_t size = 0;
	if (!table || nftnl_table_nlmsg_parse(message, table) < 0)
		goto out;
	const char *name = nftnl_table_get_str(table, NFTNL_TABLE_NAME);
	if (!name || strcmp(name, found->nft->table) != 0 ||
		nftnl_table_get_u32(table, NFTNL_TABLE_FAMILY) != NFPROTO_INET)
		goto out;
	found->found = true;
	const void *data = nftnl_table_get_data(table, NFTNL_TABLE_USERDATA, &size);
	if (data && size > 0)
		(void)nftnl_udata_parse(data, size, parse_comment, &comment);
	nft_describe(found->nft, wanted);
	found->same = comment && strcmp(comment, wanted) == 0;
out:
	if (table)
		nftnl_table_free(table);
	return MNL_CB_OK;
}

static enum status find_table(struct nft *nft, struct found_table *ret_found, struct error *err)
{
	char request[1024];
	*ret_found = (struct found_table){.nft = nft};
	struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
		request, NFT_MSG_GETTABLE, NFPROTO_INET, NLM_F_DUMP, nft->sequence++);
	return nft_query(nft, message, on_table, ret_found, err);
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

/* The table, and with it the doors that an older one held, so that nobody is shut out by an
 * upgrade. */
static enum status build(
	struct nft *nft, bool replace, struct held_door *held, size_t count, struct error *err)
{
	struct first_refusal refusal = {0};
	batch_begin(nft);
	nft_build_table(nft, replace);
	for (size_t i = 0; i < count && batch_has_room(nft); i++) {
		struct door door = held[i].door;
		if (door.uses && held[i].counter >= door.uses)
			continue;
		if (door.uses)
			door.uses -= held[i].counter;
		nft_build_add(nft, &door);
	}
	enum status status = batch_commit(nft, note_refusal, &refusal, err);
	if (refusal.errnum)
		return error_errno(err, STATUS_UNAVAILABLE, refusal.errnum,
			"nftables: the kernel refused message %zu of table inet %s (does it have "
			"nf_tables with ct, hash and limit?)",
			refusal.index, nft->table);
	return status;
}

enum status nft_adopt(struct nft *nft, bool *ret_created, struct error *err)
{
	struct found_table found;
	struct held_door *held = NULL;
	size_t count = 0;
	enum status status = find_table(nft, &found, err);
	if (status)
		return status;
	if (found.found && found.same) {
		*ret_created = false;
		return STATUS_OK;
	}
	if (found.found)
		(void)nft_dump(nft, &held, &count,
			NULL); /* of another schema: then nothing can be carried over */
	status = build(nft, found.found, held, count, err);
	free(held);
	if (!status)
		*ret_created = !found.found;
	return status;
}

/* ---- watching ---- */

int nft_watch_fd(const struct nft *nft)
{
	return mnl_socket_get_fd(nft->watch);
}

struct watch {
	const struct nft *nft;
	bool touched;
};

static int on_notification(const struct nlmsghdr *message, void *arg)
{
	struct watch *watch = arg;
	uint16_t type = (uint16_t)(message->nlmsg_type & 0xff);
	if (message->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
		message->nlmsg_pid == nft_portid(watch->nft))
		return MNL_CB_OK;
	switch (type) {
	case NFT_MSG_DELTABLE:
	case NFT_MSG_DELCHAIN:
	case NFT_MSG_DELRULE:
	case NFT_MSG_NEWRULE:
	case NFT_MSG_DELSET:
	case NFT_MSG_DELSETELEM:
		watch->touched = true;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

bool nft_watch(struct nft *nft)
{
	struct watch watch = {.nft = nft};
	struct found_table found;
	char bytes[32768];
	for (int i = 0; i < 256; i++) {
		ssize_t size = mnl_socket_recvfrom(nft->watch, bytes, sizeof bytes);
		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == ENOBUFS)
			watch.touched = true; /* something was lost: look for ourselves */
		if (size < 0)
			break;
		(void)mnl_cb_run(bytes, (size_t)size, 0, 0, on_notification, &watch);
	}
	if (!watch.touched)
		return false;
	return find_table(nft, &found, NULL) == STATUS_OK && !(found.found && found.same);
}

/* ---- problems ---- */

struct problems {
	const struct nft *nft;
	char *text;
	size_t size, used;
};

static int on_chain(const struct nlmsghdr *message, void *arg)
{
	struct problems *problems = arg;
	struct nftnl_chain *chain = nftnl_chain_alloc();
	if (!chain || nftnl_chain_nlmsg_parse(message, chain) < 0)
		goto out;
	const char *table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
	const char *name = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME);
	uint32_t family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);
	if (!table || !name || !nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM) ||
		!nftnl_chain_is_set(chain, NFTNL_CHAIN_POLICY) ||
		(family != NFPROTO_INET && family != NFPROTO_IPV4 && family != NFPROTO_IPV6) ||
		nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM) != NF_INET_FORWARD ||
		nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) != NF_DROP ||
		strcmp(table, problems->nft->table) == 0)
		goto out;
	int n = snprintf(problems->text + problems->used, problems->size - problems->used,
		"%schain %s of table %s drops by policy in the forward hook: its drop wins over "
		"our accept: accept ct mark & 0x%x there",
		problems->used ? "\n" : "", name, table, problems->nft->config.mark);
	if (n > 0 && (size_t)n < problems->size - problems->used)
		problems->used += (size_t)n;
	else
		problems->text[problems->used] = '\0';
out:
	if (chain)
		nftnl_chain_free(chain);
	return MNL_CB_OK;
}

void nft_find_problems(struct nft *nft, char *text, size_t size)
{
	struct problems problems = {.nft = nft, .text = text, .size = size};
	char request[1024];
	text[0] = '\0';
	if (!nft->config.enforce)
		return; /* overlay: the administrator's own chain decides, with our mark */
	struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
		request, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NLM_F_DUMP, nft->sequence++);
	(void)nft_query(nft, message, on_chain, &problems, NULL);
}
