/* What the agent says of its host: boot id, addresses, kernel. */
#ifndef POSTERN_AGENT_HOST_H
#define POSTERN_AGENT_HOST_H

#include <stddef.h>

#include "common/addr.h"
#include "common/error.h"

#define HOST_BOOT_ID_SIZE 64
#define HOST_ADDRESSES_MOST 32

/* Names this network stack: the kernel's boot id and the cookie of the network namespace. Both end
 * exactly when the kernel's doors and flows do. */
enum status host_boot_id(char text[static HOST_BOOT_ID_SIZE], struct error *err);
/* Addresses that others may reach us by, as they are now; of any device, as external addresses may
 * be kept on "lo". Returns how many. */
size_t host_addresses(char texts[static HOST_ADDRESSES_MOST][ADDR_TEXT_SIZE]);

#endif
