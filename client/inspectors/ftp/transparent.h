/* TCP sockets for addresses that are not this host's (IP_TRANSPARENT): to accept and to connect. */
#ifndef POSTERN_FTP_TRANSPARENT_H
#define POSTERN_FTP_TRANSPARENT_H

#include <stdbool.h>

#include "common/addr.h"
#include "common/error.h"

/* All sockets are non-blocking. `transparent` false: ordinary sockets, for tests without
 * privileges. Listening sockets serve one address family. */
enum status transparent_listen(
	const struct endpoint *at, bool transparent, int *ret_fd, struct error *err);
/* One connection: *ret_client is the client, *ret_server whom it wanted to reach. -1 with errno. */
int transparent_accept(int fd, struct endpoint *ret_client, struct endpoint *ret_server);
/* Begins to connect with source `from`. -1 with errno; EADDRINUSE or EADDRNOTAVAIL: another source
 * port may do. */
int transparent_connect(const struct endpoint *from, const struct endpoint *to, bool transparent);
/* Small writes leave at once, dead peers are noticed, urgent bytes stay in the stream. */
void transparent_tune(int fd);

#endif
