/* Privileges: CAP_NET_ADMIN and nothing else, for good. */
#ifndef POSTERN_AGENT_CAPS_H
#define POSTERN_AGENT_CAPS_H

#include "common/error.h"

/* Before threads start. Becomes `user` (NULL = stays who it is), keeps CAP_NET_ADMIN alone in every
 * set, and sets no_new_privs. */
enum status caps_drop(const char *user, struct error *err);

#endif
