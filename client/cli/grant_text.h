/* How grants are told to people. */
#ifndef POSTERN_CLI_GRANT_TEXT_H
#define POSTERN_CLI_GRANT_TEXT_H

#include "client/cli/cli.h"
#include "postern/v1/grants.pb-c.h"

/* "active, 59.8s left", "reserved, 29s left to commit", "expired (unused-timeout)" */
void grant_tell_state(const Postern__V1__Grant *grant, char *text, size_t size);
/* "0 of 1", "12 of any number" */
void grant_tell_connections(const Postern__V1__Grant *grant, char *text, size_t size);
/* "1m", "cut to 1m, as much as the server allows"; what a renewal was cut to, the time left says */
void grant_tell_lifetime(const Postern__V1__Grant *grant, char *text, size_t size);

/* The answer to a request: a GrantReply, or a BundleReply. */
void grant_print_granted(struct cli *cli, const ProtobufCMessage *message);
void grant_print_bundle(struct cli *cli, const ProtobufCMessage *message);
/* All there is to say: a GrantReply. */
void grant_print(struct cli *cli, const ProtobufCMessage *message);
void grant_print_renewed(struct cli *cli, const ProtobufCMessage *message);
/* "grant ID: STATE", and that its connections were cut if that was asked for */
void grant_print_state(struct cli *cli, const ProtobufCMessage *message);

#endif
