#include "client/inspectors/ftp/transparent.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 512
/* A peer that vanished is noticed after 60 + 5 * 15 s, even while a transfer keeps the control
 * connection silent for hours. */
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_COUNT 5

static bool set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

static bool set_transparent(int fd, bool is_ipv6)
{
	if (is_ipv6)
		return set_option(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
	return set_option(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
}

/* A socket bound to `at`, or -1 with errno. */
static int bound_socket(const struct endpoint *at, bool transparent)
{
	bool is_ipv6 = at->addr.family == ADDR_IPV6;
	struct sockaddr_storage sa;
	size_t size = endpoint_to_sockaddr(at, &sa);
	int fd = socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		IPPROTO_TCP);
	int saved;

	if (fd < 0)
		return -1;
	if ((!is_ipv6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) &&
		set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
		(!transparent || set_transparent(fd, is_ipv6)) &&
		bind(fd, (struct sockaddr *)&sa, (socklen_t)size) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

enum status transparent_listen(
	const struct endpoint *at, bool transparent, int *ret_fd, struct error *err)
{
	char text[ENDPOINT_TEXT_SIZE];
	int fd = bound_socket(at, transparent);

	endpoint_format(at, text);
	if (fd < 0)
		return errno == EPERM
			? error_set(err, STATUS_PERMISSION_DENIED,
				  "listen %s: transparent sockets need CAP_NET_ADMIN: run as root "
				  "or grant it",
				  text)
			: error_errno(err, STATUS_UNAVAILABLE, errno, "listen %s", text);
	if (listen(fd, BACKLOG) < 0) {
		error_errno(err, STATUS_UNAVAILABLE, errno, "listen %s", text);
		close(fd);
		return STATUS_UNAVAILABLE;
	}
	*ret_fd = fd;
	return STATUS_OK;
}

int transparent_accept(int listener, struct endpoint *ret_client, struct endpoint *ret_server)
{
	struct sockaddr_storage peer, own;
	socklen_t peer_size = sizeof(peer), own_size = sizeof(own);
	int fd = accept4(
		listener, (struct sockaddr *)&peer, &peer_size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return -1;
	if (getsockname(fd, (struct sockaddr *)&own, &own_size) == 0 &&
		endpoint_from_sockaddr((struct sockaddr *)&peer, ret_client) &&
		endpoint_from_sockaddr((struct sockaddr *)&own, ret_server))
		return fd;
	close(fd);
	errno = ECONNABORTED;
	return -1;
}

int transparent_connect(const struct endpoint *from, const struct endpoint *to, bool transparent)
{
	struct sockaddr_storage sa;
	size_t size = endpoint_to_sockaddr(to, &sa);
	int fd = bound_socket(from, transparent), saved;

	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&sa, (socklen_t)size) == 0 || errno == EINPROGRESS)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

void transparent_tune(int fd)
{
	/* Each is a help, none a need. */
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
}
