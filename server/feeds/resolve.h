/* DNS names to addresses with their time to live, by c-ares. One thread owns it, and polls for it.
 */
#ifndef POSTERN_SERVER_FEEDS_RESOLVE_H
#define POSTERN_SERVER_FEEDS_RESOLVE_H

#include <poll.h>

#include "server/policy/ranges.h"

struct resolver;

#define RESOLVER_FDS_MAX 16

enum status resolver_new(struct resolver **ret_resolver, struct error *err);
/* Questions that are open end with CANCELLED. Accepts NULL. */
void resolver_free(struct resolver *resolver);
/* `ranges` is the callee's on success; normalized. */
typedef void (*resolver_cb)(
	void *arg, struct ranges *ranges, uint64_t ttl_ms, const struct error *err);
void resolver_ask(struct resolver *resolver, const char *name, resolver_cb cb, void *arg);
/* What to wait for: how many of `fds` were filled; at most *timeout_ms is cut. */
size_t resolver_wait(struct resolver *resolver, struct pollfd *fds, int *timeout_ms);
void resolver_process(struct resolver *resolver, const struct pollfd *fds, size_t count);

#endif
