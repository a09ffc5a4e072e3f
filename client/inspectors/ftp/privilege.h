/* Gives up every privilege but the one that transparent sockets need. */
#ifndef POSTERN_FTP_PRIVILEGE_H
#define POSTERN_FTP_PRIVILEGE_H

#include <stddef.h>

#include "common/error.h"

/* Keeps CAP_NET_ADMIN alone, for good. Before any thread is started: capabilities are a thread's.
 */
enum status privilege_drop(struct error *err);
/* Raises the limit of open files to `wanted`, or as far as it goes; returns what it is now. */
size_t privilege_raise_files(size_t wanted);

#endif
