#include "server/feeds/resolve.h"

#include <ares.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define TTL_LEAST_S 5
#define TTL_MOST_S 86400

struct resolver {
	ares_channel channel;
};

struct question { /* A and AAAA: one that fails makes the answer no answer */
	resolver_cb cb;
	void *arg;
	char name[256];
	unsigned open;
	struct ranges ranges;
	int ttl_s;
	struct error err;
};

enum status resolver_new(struct resolver **ret_resolver, struct error *err)
{
	struct resolver *resolver = calloc(1, sizeof *resolver);
	/* A name of the document is whole: no search domain may make another host of it. */
	struct ares_options options = {.timeout = 2000, .tries = 3, .flags = ARES_FLAG_NOSEARCH};
	if (!resolver)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	int rc = ares_library_init(ARES_LIB_INIT_ALL);
	if (rc == ARES_SUCCESS)
		rc = ares_init_options(&resolver->channel, &options,
			ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
	if (rc == ARES_SUCCESS) {
		*ret_resolver = resolver;
		return STATUS_OK;
	}
	free(resolver);
	return error_set(
		err, STATUS_RESOURCE_EXHAUSTED, "the resolver of DNS names: %s", ares_strerror(rc));
}

void resolver_free(struct resolver *resolver)
{
	if (!resolver)
		return;
	ares_destroy(resolver->channel);
	ares_library_cleanup();
	free(resolver);
}

static bool add_address(struct ranges *ranges, const struct sockaddr *address)
{
	struct addr addr = {0};
	if (address->sa_family == AF_INET) {
		addr.family = ADDR_IPV4;
		memcpy(addr.bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr,
			4);
	} else if (address->sa_family == AF_INET6) {
		addr.family = ADDR_IPV6;
		memcpy(addr.bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr,
			16);
	} else {
		return true;
	}
	return ranges_add(ranges, &addr, &addr);
}

static void finish(struct question *question)
{
	struct error *err = &question->err;
	int ttl_s = question->ttl_s < TTL_LEAST_S ? TTL_LEAST_S : question->ttl_s;
	if (!err->status && ranges_is_empty(&question->ranges))
		error_set(err, STATUS_NOT_FOUND, "%.200s has no address", question->name);
	if (err->status)
		ranges_fini(&question->ranges);
	else
		ranges_normalize(&question->ranges);
	question->cb(question->arg, &question->ranges, (uint64_t)ttl_s * 1000, err);
	free(question);
}

static void take_addresses(struct question *question, const struct ares_addrinfo *info)
{
	for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next) {
		if (!add_address(&question->ranges, node->ai_addr))
			error_set(&question->err, STATUS_RESOURCE_EXHAUSTED,
				"the server is out of memory");
		if (node->ai_ttl < question->ttl_s)
			question->ttl_s = node->ai_ttl;
	}
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct question *question = arg;
	(void)timeouts;
	if (status == ARES_SUCCESS)
		take_addresses(question, info);
	else if (status != ARES_ENODATA && !question->err.status)
		error_set(&question->err,
			status == ARES_ECANCELLED || status == ARES_EDESTRUCTION
				? STATUS_CANCELLED
				: STATUS_UNAVAILABLE,
			"%.200s: %s", question->name, ares_strerror(status));
	if (info)
		ares_freeaddrinfo(info);
	if (--question->open == 0)
		finish(question);
}

void resolver_ask(struct resolver *resolver, const char *name, resolver_cb cb, void *arg)
{
	struct ares_addrinfo_hints hints = {.ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
	struct question *question = calloc(1, sizeof *question);
	if (!question) {
		struct error err;
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		cb(arg, NULL, 0, &err);
		return;
	}
	question->cb = cb;
	question->arg = arg;
	question->open = 2;
	question->ttl_s = TTL_MOST_S;
	strncpy(question->name, name, sizeof question->name - 1);
	hints.ai_family = AF_INET;
	ares_getaddrinfo(resolver->channel, name, NULL, &hints, on_answer, question);
	hints.ai_family = AF_INET6;
	ares_getaddrinfo(resolver->channel, name, NULL, &hints, on_answer, question);
}

size_t resolver_wait(struct resolver *resolver, struct pollfd *fds, int *timeout_ms)
{
	ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
	int bits = ares_getsock(resolver->channel, sockets, ARES_GETSOCK_MAXNUM);
	struct timeval most = {.tv_sec = *timeout_ms / 1000, .tv_usec = *timeout_ms % 1000 * 1000};
	struct timeval left;
	size_t count = 0;
	for (int i = 0; i < ARES_GETSOCK_MAXNUM && i < RESOLVER_FDS_MAX; i++) {
		/* c-ares' own macros shift a bit into the sign */
		bool reads = (unsigned)bits >> i & 1;
		bool writes = (unsigned)bits >> (i + ARES_GETSOCK_MAXNUM) & 1;
		short events = (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0));
		if (events)
			fds[count++] = (struct pollfd){.fd = sockets[i], .events = events};
	}
	const struct timeval *wait = ares_timeout(resolver->channel, &most, &left);
	*timeout_ms = (int)(wait->tv_sec * 1000 + wait->tv_usec / 1000) + (wait == &left);
	return count;
}

void resolver_process(struct resolver *resolver, const struct pollfd *fds, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		bool reads = fds[i].revents & (POLLIN | POLLERR | POLLHUP);
		bool writes = fds[i].revents & POLLOUT;
		if (reads || writes)
			ares_process_fd(resolver->channel, reads ? fds[i].fd : ARES_SOCKET_BAD,
				writes ? fds[i].fd : ARES_SOCKET_BAD);
	}
	ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* timeouts */
}
