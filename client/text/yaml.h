/* YAML (and JSON) to a tree of nodes: one document, no aliases, no tags beside the core ones. */
#ifndef POSTERN_TEXT_YAML_H
#define POSTERN_TEXT_YAML_H

#include <stddef.h>

#include "common/error.h"

struct node_tree;

#define YAML_NODES_MAX (24U * 1024 * 1024)

/* `name` is what errors call the file. `ret_tree` is the caller's to give to node_tree_fini(). */
enum status yaml_read(const char *name, const char *bytes, size_t size, struct node_tree *ret_tree,
	struct error *err);

#endif
