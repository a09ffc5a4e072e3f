/* Design.
 *
 * A transaction is a netlink batch: the kernel applies all of it or nothing. It answers every
 * message it refuses, even after the first, and the last one in any case (the only one that asks
 * for an acknowledgement); all answers are in the socket when sendto() returns, and all of them are
 * read. The sequence number says which message an answer is about. nft_apply() leaves the refused
 * ones out and tries again, so that one bad element does not sink its neighbours; a deletion of
 * what has expired (ENOENT) is no failure.
 *
 * Sizes: one message an element (about 250 bytes), at most a batch buffer of them per transaction;
 * larger sets take several transactions, each whole in itself.
 *
 * Installation works on whatever is there, from nothing to a table that another program has pulled
 * apart: tables, chains and maps are created unless they exist, all rules are deleted and written
 * anew. Nobody sees a state in between, and elements are not touched. What an existing object
 * forbids (another priority, maps of another shape) the kernel answers with an error, and the next,
 * more drastic way is tried. */
#include "agent/datapath/nft.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
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
	nft->failed = !nft->batch;
	nft->messages = 0;
	nft->last = NULL;
	nft->begin_sequence = nft->sequence++;
	if (nft->failed)
		return;
	nftnl_batch_begin(mnl_nlmsg_batch_current(nft->batch), nft->begin_sequence);
	mnl_nlmsg_batch_next(nft->batch);
}

struct nlmsghdr *batch_message(struct nft *nft, uint16_t type, uint16_t flags)
{
	/* Without a batch the message is built into the free half of the buffer and forgotten. */
	void *at = nft->batch ? mnl_nlmsg_batch_current(nft->batch) : nft->buffer;
	nft->messages++;
	nft->last = nftnl_nlmsg_build_hdr(at, type, NFPROTO_INET, flags, nft->sequence++);
	return nft->last;
}

void batch_next(struct nft *nft)
{
	if (nft->batch && !mnl_nlmsg_batch_next(nft->batch))
		nft->failed =
			true; /* past the buffer's limit: callers ask batch_has_room() first */
}

bool batch_has_room(const struct nft *nft)
{
	return nft->batch && mnl_nlmsg_batch_size(nft->batch) < NFT_BATCH_BYTES - 65536;
}

/* What the kernel says of a transaction. */
struct answers {
	bool last; /* the last message was answered: nothing was lost */
	bool bad; /* at least one message was refused */
	int errnum; /* of the whole transaction */
};

static void take_answer(struct nft *nft, const struct nlmsghdr *message,
	void (*refused)(void *arg, size_t index, int errnum), void *arg, struct answers *answers)
{
	if (message->nlmsg_type != NLMSG_ERROR ||
		mnl_nlmsg_get_payload_len(message) < sizeof(struct nlmsgerr))
		return;
	const struct nlmsgerr *error = mnl_nlmsg_get_payload(message);
	uint32_t place = message->nlmsg_seq - nft->begin_sequence; /* 0: the batch's own frame */
	if (place > nft->messages)
		return; /* of an earlier transaction whose answers came late: it was given up */
	if (place == 0 && error->error != 0)
		answers->errnum = -error->error;
	if (place == 0)
		return;
	answers->last |= place == nft->messages;
	if (error->error == 0)
		return;
	answers->bad = true;
	refused(arg, place - 1, -error->error);
}

static void read_answers(struct nft *nft, void (*refused)(void *arg, size_t index, int errnum),
	void *arg, struct answers *answers)
{
	for (;;) {
		ssize_t size = recv(mnl_socket_get_fd(nft->socket), nft->answer, NFT_ANSWER_BYTES,
			MSG_DONTWAIT);
		if (size < 0 && (errno == EINTR || errno == ENOBUFS))
			continue;
		if (size <= 0)
			return;
		int left = (int)size;
		for (const struct nlmsghdr *message = (const struct nlmsghdr *)nft->answer;
			mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left))
			take_answer(nft, message, refused, arg, answers);
	}
}

enum status batch_commit(struct nft *nft, void (*refused)(void *arg, size_t index, int errnum),
	void *arg, struct error *err)
{
	struct answers answers = {0};
	ssize_t sent = 0;
	if (!nft->failed && nft->messages > 0) {
		nft->last->nlmsg_flags |= NLM_F_ACK;
		nftnl_batch_end(mnl_nlmsg_batch_current(nft->batch), nft->sequence++);
		mnl_nlmsg_batch_next(nft->batch);
		sent = mnl_socket_sendto(nft->socket, mnl_nlmsg_batch_head(nft->batch),
			mnl_nlmsg_batch_size(nft->batch));
	}
	int cause = errno;
	if (nft->batch)
		mnl_nlmsg_batch_stop(nft->batch);
	nft->batch = NULL;
	if (nft->failed)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"nftables: out of memory: the transaction was not sent");
	if (nft->messages == 0)
		return STATUS_OK;
	if (sent < 0)
		return error_errno(
			err, STATUS_UNAVAILABLE, cause, "nftables: cannot send a transaction");
	read_answers(nft, refused, arg, &answers);
	if (answers.errnum)
		return error_errno(err, STATUS_UNAVAILABLE, answers.errnum,
			"nftables: the kernel refused the transaction");
	if (answers.bad)
		return error_set(
			err, STATUS_ABORTED, "nftables: a part of the transaction was refused");
	if (!answers.last)
		return error_set(err, STATUS_UNAVAILABLE,
			"nftables: the kernel's answer to a transaction was lost");
	return STATUS_OK;
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
		if (size < 0 && errno == EINTR)
			continue;
		int rc = size < 0
			? -1
			: mnl_cb_run(nft->answer, (size_t)size, sequence, nft_portid(nft), cb, arg);
		if (rc == MNL_CB_STOP)
			return STATUS_OK;
		if (rc >= 0)
			continue;
		if (errno == ESRCH || errno == EPROTO)
			continue; /* a late answer to an earlier question */
		if (errno == ENOENT)
			return error_set(err, STATUS_NOT_FOUND, "nftables: not there");
		if (errno == EINTR)
			return error_set(err, STATUS_ABORTED,
				"nftables: the ruleset changed during the dump");
		return error_errno(
			err, STATUS_UNAVAILABLE, errno, "nftables: cannot read from the kernel");
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
	snprintf(nft->comment, sizeof nft->comment, NFT_SCHEMA " boot %.80s", config->boot_id);
	/* libmnl lets the last message run past the limit */
	nft->buffer = malloc(NFT_BATCH_BYTES * 2);
	nft->answer = malloc(NFT_ANSWER_BYTES);
	nft->sequence = 1;
	if (!nft->buffer || !nft->answer) {
		nft_close(nft);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	struct error cause = {0};
	nft->socket = open_socket(0, &cause);
	nft->watch = nft->socket ? open_socket(1U << (NFNLGRP_NFTABLES - 1), &cause) : NULL;
	if (!nft->watch) {
		nft_close(nft);
		if (err)
			*err = cause;
		return cause.status;
	}
	int fd = mnl_socket_get_fd(nft->watch);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	nft_watch_filter(nft);
	*ret_nft = nft;
	return STATUS_OK;
}

void nft_configure(struct nft *nft, const struct nft_config *config)
{
	nft->config.enforce = config->enforce;
	nft->config.priority = config->priority;
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

/* ---- installation ---- */

struct found_table {
	const struct nft *nft;
	bool found, same;
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

static int on_table(const struct nlmsghdr *message, void *arg)
{
	struct found_table *found = arg;
	struct nftnl_table *table = nftnl_table_alloc();
	const char *comment = NULL;
	uint32_t size = 0;
	if (!table)
		return MNL_CB_ERROR;
	const char *name = nftnl_table_nlmsg_parse(message, table) < 0
		? NULL
		: nftnl_table_get_str(table, NFTNL_TABLE_NAME);
	if (name && strcmp(name, found->nft->table) == 0 &&
		nftnl_table_get_u32(table, NFTNL_TABLE_FAMILY) == NFPROTO_INET) {
		const void *data = nftnl_table_get_data(table, NFTNL_TABLE_USERDATA, &size);
		if (data && size > 0)
			(void)nftnl_udata_parse(data, size, parse_comment, &comment);
		found->found = true;
		found->same = comment && strcmp(comment, found->nft->comment) == 0;
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
			"nf_tables "
			"with ct, hash and limit?)",
			refusal.index, nft->table);
	return status;
}

/* A table of another shape is replaced; the doors it held go into the new one, with the uses and
 * the time they have left. Nothing is open in between that was not before, but for a moment less
 * is. */
static enum status replace(struct nft *nft, bool keep_doors, struct error *err)
{
	struct held_door *held = NULL;
	size_t count = 0, kept = 0, failed = 0;
	if (keep_doors)
		(void)nft_dump(nft, &held, &count, NULL); /* unreadable: a snapshot brings them */
	struct door *doors = calloc(count + 1, sizeof *doors);
	struct door_failure *failures = calloc(count + 1, sizeof *failures);
	for (size_t i = 0; doors && i < count; i++) {
		struct door door = held[i].door;
		if (door.uses && held[i].counter >= door.uses)
			continue;
		if (door.uses)
			door.uses -= held[i].counter;
		doors[kept++] = door;
	}
	enum status status = build(nft, NFT_BUILD_NEW_TABLE, true, err);
	if (!status && doors && failures)
		(void)nft_apply(nft, doors, kept, NULL, 0, failures, &failed, NULL);
	free(held);
	free(doors);
	free(failures);
	return status;
}

enum status nft_install(struct nft *nft, enum nft_adoption *ret_adoption, struct error *err)
{
	struct found_table found;
	enum status status = find_table(nft, &found, err);
	if (status)
		return status;
	if (found.found && !found.same) {
		/* Of another boot: its doors were armed anew when it was loaded. */
		status = build(nft, NFT_BUILD_NEW_TABLE, true, err);
		if (!status)
			*ret_adoption = NFT_REPLACED;
		return status;
	}
	status = build(nft, NFT_BUILD_ONTO, found.found, err);
	if (status == STATUS_ABORTED && found.found)
		status = build(nft, NFT_BUILD_NEW_CHAIN, true, err);
	bool adopted = !status;
	if (status == STATUS_ABORTED && found.found)
		status = replace(nft, true, err);
	if (!status)
		*ret_adoption = !found.found ? NFT_CREATED : adopted ? NFT_ADOPTED : NFT_REPLACED;
	return status;
}
