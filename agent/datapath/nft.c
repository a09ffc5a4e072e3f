/* Design.
 *
 * A transaction is a netlink batch: the kernel applies all of it or nothing. It answers every
 * message it refuses, even after the first, and the last one in any case (the only one that asks
 * for an acknowledgement); all answers are in the socket when sendto() returns, and all of them are
 * read. The sequence number says which message an answer is about.
 */
#include "agent/datapath/nft.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
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
	if (refused)
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

int nft_no_memory(void)
{
	errno = ENOMEM; /* what nft_query() looks at: not what an earlier call has left there */
	return MNL_CB_ERROR;
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
		if (errno == ENOMEM)
			return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
		if (errno == ENOENT)
			return error_set(err, STATUS_NOT_FOUND, "nftables: not there");
		/* EBUSY: the rest of a dump that was broken off has to be read first. */
		if (errno == EINTR || errno == EBUSY)
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

static void settle_renewal(struct nft *nft)
{
	nft->renewal = nft->config.renewal == NFT_RENEW_AUTO ? nft->probed : nft->config.renewal;
	nft_write_comment(nft);
}

enum status nft_open(const struct nft_config *config, struct nft **ret_nft, struct error *err)
{
	struct nft *nft = calloc(1, sizeof *nft);
	if (!nft)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	nft->config = *config;
	snprintf(nft->table, sizeof nft->table, "%s", config->table);
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
	nft->probed = nft_probe_renewal(nft);
	settle_renewal(nft);
	*ret_nft = nft;
	return STATUS_OK;
}

enum nft_renewal nft_renewal(const struct nft *nft)
{
	return nft->renewal;
}

void nft_configure(struct nft *nft, const struct nft_config *config)
{
	nft->config.enforce = config->enforce;
	nft->config.priority = config->priority;
	nft->config.renewal = config->renewal;
	settle_renewal(nft);
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
