#include "client/inspectors/ftp/privilege.h"

#include <cap-ng.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum status privilege_drop(struct error *err)
{
	bool may_bound;

	if (!capng_have_capability(CAPNG_PERMITTED, CAP_NET_ADMIN))
		return error_set(err, STATUS_PERMISSION_DENIED,
			"transparent sockets need CAP_NET_ADMIN: run as root or grant it "
			"(AmbientCapabilities= of the systemd unit)");
	/* Without it somebody else has already bounded us. */
	may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
	capng_clear(CAPNG_SELECT_ALL);
	capng_update(CAPNG_ADD, (capng_type_t)(CAPNG_EFFECTIVE | CAPNG_PERMITTED), CAP_NET_ADMIN);
	if (capng_apply(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) != 0 ||
		capng_apply(CAPNG_SELECT_AMBIENT) != 0)
		return error_errno(
			err, STATUS_PERMISSION_DENIED, errno, "cannot give up capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return error_errno(
			err, STATUS_PERMISSION_DENIED, errno, "cannot set no-new-privileges");
	return STATUS_OK;
}

size_t privilege_raise_files(size_t wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 0;
	if (limit.rlim_cur >= wanted)
		return limit.rlim_cur;
	limit.rlim_cur = wanted;
	if (limit.rlim_max < wanted) {
		struct rlimit more = {wanted, wanted};

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return wanted;
		limit.rlim_cur = limit.rlim_max;
	}
	setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}
