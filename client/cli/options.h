/* The options of every command; each table ends with a NULL name. */
#ifndef POSTERN_CLI_OPTIONS_H
#define POSTERN_CLI_OPTIONS_H

#include "client/cli/args.h"

extern const struct option_spec gateway_add_options[];
extern const struct option_spec filter_add_options[];
extern const struct option_spec auditor_add_options[];
extern const struct option_spec protocol_register_options[];
extern const struct option_spec policy_allow_options[];
extern const struct option_spec policy_apply_options[];
extern const struct option_spec policy_history_options[];
extern const struct option_spec policy_diff_options[];
extern const struct option_spec policy_rollback_options[];
extern const struct option_spec policy_test_options[];
extern const struct option_spec policy_replay_options[];
extern const struct option_spec policy_explain_options[];
extern const struct option_spec feed_show_options[];
extern const struct option_spec session_open_options[];
extern const struct option_spec session_list_options[];
extern const struct option_spec grant_request_options[];
extern const struct option_spec grant_reserve_options[];
extern const struct option_spec grant_line_options[];
extern const struct option_spec grant_bundle_options[];
extern const struct option_spec grant_commit_options[];
extern const struct option_spec grant_renew_options[];
extern const struct option_spec grant_cancel_options[];
extern const struct option_spec grant_list_options[];
extern const struct option_spec events_watch_options[];
extern const struct option_spec audit_query_options[];
extern const struct option_spec audit_verify_options[];
extern const struct option_spec version_options[];
extern const struct option_spec help_options[];

#endif
