/* Between nodes and messages. Internal to the folder. */
#ifndef POSTERN_TEXT_MAPPING_H
#define POSTERN_TEXT_MAPPING_H

#include <protobuf-c/protobuf-c.h>

#include "client/text/message.h"
#include "client/text/node.h"

/* Adds what the tree says to an initialised message: repeated fields are joined. Errors begin with
 * FILE:LINE:COLUMN and the path; err->field is the path. */
enum status mapping_read(const struct node_tree *tree, const char *file, ProtobufCMessage *message,
	struct error *err);

#endif
