/* One transaction of doors, whatever its outcome: what the kernel did not take is told as a failure
 * of that door alone. */
#ifndef POSTERN_AGENT_COMMIT_H
#define POSTERN_AGENT_COMMIT_H

#include <stddef.h>
#include <stdint.h>

#include "agent/door.h"
#include "common/error.h"

struct agent;

struct commit {
	struct door *remove, *add, *renew; /* the caller's; additions and renewals change places */
	size_t remove_count, add_count, renew_count;
	struct door_failure
		*failures; /* room for one of each addition and renewal, and the first */
	size_t failure_count; /* that are there already */
	int64_t kernel_us;
};
/* Additions with an external address that cannot be had are failures. A renewal of a door that the
 * kernel has no more is an addition with the uses that are left; the books must have it. Fails as
 * nft_apply does: then nothing is known of the doors. */
enum status commit_apply(struct agent *agent, struct commit *commit, struct error *err);

#endif
