/* May a door have this external address and port? Asks the kernel for local addresses and for
 * sockets of this host's programs. */
#ifndef POSTERN_AGENT_EXTERNAL_H
#define POSTERN_AGENT_EXTERNAL_H

#include <stdbool.h>

#include "agent/door.h"

/* True: the gateway owns door->outside, and for an inbound door no program has its port. Else the
 * failure says what is wrong and what there is instead. A door without translation passes. */
bool external_is_free(const struct door *door, struct door_failure *ret_failure);

#endif
