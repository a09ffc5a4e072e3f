#include <cap-ng.h>
#include <sys/prctl.h>

#include "agent/agent.h"

enum status caps_drop(struct error *err)
{
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_ADMIN) != 0 ||
		capng_apply(CAPNG_SELECT_BOTH) != 0)
		return error_set(err, STATUS_PERMISSION_DENIED,
			"cannot keep CAP_NET_ADMIN alone: start with it (as root, or by "
			"AmbientCapabilities=CAP_NET_ADMIN)");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return error_set(err, STATUS_UNIMPLEMENTED, "cannot set no_new_privs");
	return STATUS_OK;
}
