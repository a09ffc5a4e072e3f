#include "client/inspectors/ftp/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"

#define ACCEPTS_A_WAKE 64
#define BACKLOG 1024

struct listener {
	struct ftp *ftp;
	struct loop_io io;
	int fd;
};

struct listeners {
	struct ftp *ftp;
	size_t count;
	struct listener list[];
};

static void on_ready(void *arg, uint32_t events)
{
	struct listener *listener = arg;
	(void)events;
	for (int i = 0; i < ACCEPTS_A_WAKE; i++) {
		struct sockaddr_storage from, to;
		socklen_t from_size = sizeof from, to_size = sizeof to;
		struct endpoint client, server;
		int fd = accept4(listener->fd, (struct sockaddr *)&from, &from_size,
			SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
				log_err("accept: %s", "out of descriptors or memory");
			return;
		}
		/* With tproxy the socket's own name is where the client wanted to go. */
		if (getsockname(fd, (struct sockaddr *)&to, &to_size) != 0 ||
			!endpoint_from_sockaddr((struct sockaddr *)&from, &client) ||
			!endpoint_from_sockaddr((struct sockaddr *)&to, &server)) {
			close(fd);
			continue;
		}
		session_start(listener->ftp, fd, &client, &server);
	}
}

static enum status start_one(struct listener *listener, const char *text, struct error *err)
{
	struct endpoint endpoint;
	struct sockaddr_storage sa;
	int one = 1;
	if (!endpoint_parse(text, true, &endpoint))
		return error_set(
			err, STATUS_INVALID_ARGUMENT, "listen = %s: write ADDR:PORT", text);
	bool ipv6 = endpoint.addr.family == ADDR_IPV6;
	socklen_t size = (socklen_t)endpoint_to_sockaddr(&endpoint, &sa);
	listener->fd =
		socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return error_errno(err, STATUS_UNAVAILABLE, errno, "listen = %s", text);
	(void)setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (ipv6)
		(void)setsockopt(listener->fd, SOL_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (setsockopt(listener->fd, ipv6 ? SOL_IPV6 : SOL_IP,
		    ipv6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &one, sizeof one) != 0)
		return error_errno(err, STATUS_PERMISSION_DENIED, errno,
			"listen = %s: transparent sockets need CAP_NET_ADMIN", text);
	if (bind(listener->fd, (struct sockaddr *)&sa, size) != 0 ||
		listen(listener->fd, BACKLOG) != 0)
		return error_errno(err, STATUS_UNAVAILABLE, errno, "listen = %s", text);
	return loop_io_add(
		listener->ftp->loop, &listener->io, listener->fd, EPOLLIN, on_ready, listener);
}

enum status listeners_start(struct ftp *ftp, struct listeners **ret_listeners, struct error *err)
{
	struct listeners *listeners =
		calloc(1, sizeof *listeners + ftp->config->listen.count * sizeof *listeners->list);
	enum status status = STATUS_OK;
	if (!listeners)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	listeners->ftp = ftp;
	for (size_t i = 0; i < ftp->config->listen.count && !status; i++) {
		struct listener *listener = &listeners->list[listeners->count++];
		listener->ftp = ftp;
		listener->fd = -1;
		status = start_one(listener, ftp->config->listen.items[i], err);
	}
	if (status) {
		listeners_stop(listeners);
		return status;
	}
	*ret_listeners = listeners;
	return STATUS_OK;
}

void listeners_stop(struct listeners *listeners)
{
	if (!listeners)
		return;
	for (size_t i = 0; i < listeners->count; i++) {
		loop_io_remove(listeners->ftp->loop, &listeners->list[i].io);
		if (listeners->list[i].fd >= 0)
			close(listeners->list[i].fd);
	}
	free(listeners);
}
