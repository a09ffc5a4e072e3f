/* One generic mapping from protobuf messages to JSON, one line each; section JSON of docs/postern.1
 * documents it. */
#ifndef POSTERN_TEXT_JSON_H
#define POSTERN_TEXT_JSON_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdio.h>

#include "common/error.h"

/* A key that is not in the message: {"token_file", "gw1.token"}. A NULL key ends the array, a NULL
 * text is JSON null. */
struct json_extra {
	const char *key;
	const char *text;
};

/* Every field of the message is a key, always present and in the order of the fields' numbers; then
 * the extras (may be NULL). `message` NULL prints the extras alone. False when memory is out or
 * `out` fails. */
bool json_print(FILE *out, const ProtobufCMessage *message, const struct json_extra *extra);
/* {"error":{"status","reason","rule","grant","field","revision","text"}}, with the extras inside
 * "error". */
bool json_print_error(FILE *out, const struct error *err, const struct json_extra *extra);

#endif
