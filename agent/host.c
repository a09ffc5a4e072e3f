#include "agent/host.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif
#define BOOT_ID_LENGTH 36

enum status host_boot_id(char text[static HOST_BOOT_ID_SIZE], struct error *err)
{
	char boot[BOOT_ID_LENGTH + 1] = "";
	uint64_t cookie = 0;
	socklen_t size = sizeof cookie;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, boot, BOOT_ID_LENGTH) : -1;
	if (fd >= 0)
		close(fd);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool have = sock >= 0 && getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0;
	if (sock >= 0)
		close(sock);
	if (got != BOOT_ID_LENGTH || !have)
		return error_set(err, STATUS_UNIMPLEMENTED,
			"cannot tell one boot from another: Linux 5.14 or newer with /proc is "
			"needed");
	snprintf(text, HOST_BOOT_ID_SIZE, "%s-%llx", boot, (unsigned long long)cookie);
	return STATUS_OK;
}

size_t host_addresses(char texts[static HOST_ADDRESSES_MOST][ADDR_TEXT_SIZE])
{
	struct ifaddrs *list = NULL;
	size_t count = 0;
	if (getifaddrs(&list) != 0)
		return 0;
	for (const struct ifaddrs *at = list; at && count < HOST_ADDRESSES_MOST;
		at = at->ifa_next) {
		struct endpoint endpoint;
		if (!at->ifa_addr || !endpoint_from_sockaddr(at->ifa_addr, &endpoint) ||
			!addr_is_forwardable(&endpoint.addr))
			continue;
		addr_format(&endpoint.addr, texts[count++]);
	}
	freeifaddrs(list);
	return count;
}
