/* The one table of commands and options. Parsing, help, completion and the manual's test read it.
 */
#ifndef POSTERN_CLI_COMMANDS_H
#define POSTERN_CLI_COMMANDS_H

#include "client/cli/args.h"

extern const struct command_spec cli_commands[]; /* ends with a NULL noun */
extern const struct option_spec cli_globals[]; /* ends with a NULL name */

enum status gateway_add(struct cli *cli, struct error *err);
enum status gateway_list(struct cli *cli, struct error *err);
enum status gateway_show(struct cli *cli, struct error *err);
enum status filter_add(struct cli *cli, struct error *err);
enum status filter_list(struct cli *cli, struct error *err);
enum status auditor_add(struct cli *cli, struct error *err);
enum status protocol_register(struct cli *cli, struct error *err);
enum status protocol_list(struct cli *cli, struct error *err);
enum status policy_allow_protocol(struct cli *cli, struct error *err);
enum status policy_rules(struct cli *cli, struct error *err);
enum status policy_apply(struct cli *cli, struct error *err);
enum status policy_confirm(struct cli *cli, struct error *err);
enum status policy_import(struct cli *cli, struct error *err);
enum status policy_rollback(struct cli *cli, struct error *err);
enum status policy_history(struct cli *cli, struct error *err);
enum status policy_show(struct cli *cli, struct error *err);
enum status policy_diff(struct cli *cli, struct error *err);
enum status policy_test(struct cli *cli, struct error *err);
enum status policy_replay(struct cli *cli, struct error *err);
enum status policy_explain(struct cli *cli, struct error *err);
enum status feed_list(struct cli *cli, struct error *err);
enum status feed_show(struct cli *cli, struct error *err);
enum status feed_refresh(struct cli *cli, struct error *err);
enum status feed_confirm(struct cli *cli, struct error *err);
enum status session_open(struct cli *cli, struct error *err);
enum status session_close(struct cli *cli, struct error *err);
enum status session_list(struct cli *cli, struct error *err);
enum status grant_request(struct cli *cli, struct error *err);
enum status grant_bundle(struct cli *cli, struct error *err);
enum status grant_reserve(struct cli *cli, struct error *err);
enum status grant_commit(struct cli *cli, struct error *err);
enum status grant_renew(struct cli *cli, struct error *err);
enum status grant_list(struct cli *cli, struct error *err);
enum status grant_show(struct cli *cli, struct error *err);
enum status grant_cancel(struct cli *cli, struct error *err);
enum status events_watch(struct cli *cli, struct error *err);
enum status audit_query(struct cli *cli, struct error *err);
enum status audit_verify(struct cli *cli, struct error *err);
enum status version_show(struct cli *cli, struct error *err);
enum status help_show(struct cli *cli, struct error *err);

#endif
