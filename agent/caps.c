#include "agent/caps.h"

#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

static enum status become(const char *user, struct error *err)
{
	errno = 0;
	const struct passwd *entry = getpwnam(user);
	if (!entry)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"user: \"%s\" is not known on this host", user);
	if (entry->pw_uid == geteuid())
		return STATUS_OK;
	int rc = capng_change_id(
		(int)entry->pw_uid, (int)entry->pw_gid, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
	if (rc != 0)
		return error_set(err, STATUS_PERMISSION_DENIED,
			"cannot become user %s with CAP_NET_ADMIN alone (%d): start as root, or as "
			"that "
			"user with AmbientCapabilities=CAP_NET_ADMIN",
			user, rc);
	return STATUS_OK;
}

enum status caps_drop(const char *user, struct error *err)
{
	capng_get_caps_process();
	/* Who may not change the bounding set (a service with CAP_NET_ADMIN alone) need not. */
	bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1;
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_ADMIN) != 0)
		return error_set(err, STATUS_INTERNAL, "libcap-ng does not work here");
	if (user) {
		enum status status = become(user, err);
		if (status)
			return status;
	}
	if (capng_apply(may_bound && !user ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) != 0)
		return error_set(err, STATUS_PERMISSION_DENIED,
			"cannot keep CAP_NET_ADMIN alone: start with it (as root, or by "
			"AmbientCapabilities=CAP_NET_ADMIN)");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return error_set(err, STATUS_UNIMPLEMENTED, "cannot set no_new_privs");
	return STATUS_OK;
}
