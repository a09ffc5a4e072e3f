/* Flows that are to end although they were let in: their conntrack entries are deleted, and since
 * their doors are gone and a TCP flow begins with a SYN only, they cannot resume. */
#ifndef POSTERN_AGENT_CUT_H
#define POSTERN_AGENT_CUT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/id.h"

struct agent;

/* Notes grants whose flows are to be cut when their doors are gone. Call it while the books still
 * have the doors. False: memory is out. */
bool cut_add(struct agent *agent, const struct id *grants, size_t count);
/* The removals of the doors are in the kernel: deletes every entry of the noted grants. When it
 * fails they stay noted. */
enum status cut_flows(struct agent *agent, struct error *err);
void cut_clear(struct agent *agent);

#endif
